"""LinEAS beside Lin-AcT: few samples on a small network; what edits move in trained generators.

Without options: a network of four tanh layers whose inputs differ in four of 24 coordinates; the
cost of the output on 2,000 held-out rows, relative to no edit. `--recommender` and `--planner`
take checkpoints (`runs/fit/causal`, `runs/fit/diffusion`) and sweep the strength on test contexts:
shift of the attribute wanted, of the others, and loss of quality. Maps are fitted on training rows
with several seeds; `placebo` maps lead from random rows to random rows.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from data_prep.artifact import read_artifact
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from data_prep.schema import INTERACTIONS
from driving.activation_maps import style_ends
from driving.load import load_planner
from driving.planner.planner import StyleCondition
from driving.planning_rows import read_planning_rows
from driving.style.tables import SAMPLES
from personalize.evaluation.intervals import bootstrap_interval
from personalize.steering.contrasting_rows import TooFewRows
from personalize.steering.edit_fits import EndToEnd, lin_act, linear_end_to_end, transport_cost
from personalize.steering.edits import Maps, active_share, edited
from personalize.steering.fitted_maps import ENCODER_BLOCKS, Ends, modules_matching
from recsys.activation_maps import attribute_ends, item_attributes, learnt_histories
from recsys.collate import prefix_batch, windows
from recsys.histories import Histories
from recsys.load import load_recommender
from recsys.ranking import ndcg_at_k, target_ranks

WIDTH, LAYERS, MOVED, HELD_OUT = 24, 4, 4, 2000
SIZES = (8, 32, 128)
SPARSE, DENSE = EndToEnd(steps=200, sparsity=0.8), EndToEnd(steps=200)
STRENGTHS = (-1.0, 0.25, 0.5, 0.75, 1.0)
RANK = 10
MOST_CONTEXTS = 300
STEP_S = 0.5
DRIVEN = ("speed", "acceleration", "braking", "lateral_acceleration")
Measured = dict[str, np.ndarray]


def main() -> None:
    """Run, print tables and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8, help="networks of the small experiment")
    parser.add_argument("--fits", type=int, default=3, help="draws of rows per checkpoint")
    parser.add_argument("--dimensions", nargs="+", help="only these (default: all)")
    parser.add_argument("--recommender", type=Path, nargs="*", default=[])
    parser.add_argument("--planner", type=Path, nargs="*", default=[])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = {}
    if options.seeds:
        report = few_samples(options.seeds)
    report["generators"] = {
        **{
            str(path): recommender_sweep(path, options.fits, options.dimensions)
            for path in options.recommender
        },
        **{
            str(path): planner_sweep(path, options.fits, options.dimensions)
            for path in options.planner
        },
    }
    if options.json:
        print(json.dumps(report))


def few_samples(seeds: int) -> dict[str, Any]:
    """The small experiment."""
    print("rows  method     cost relative to no edit (95 %)   coordinates changed")
    relative: dict[str, dict[str, list[float]]] = {}
    rows, lower, shares = [], [], []
    for size in SIZES:
        relative[str(size)] = {}
        found = [one_network(seed, size) for seed in range(seeds)]
        for method in found[0]:
            values = np.array([costs[method][0] for costs in found])
            share = float(np.mean([costs[method][1] for costs in found]))
            interval = bootstrap_interval(values)
            relative[str(size)][method] = values.tolist()
            rows.append({"rows": size, "method": method, "share": share, **vars(interval)})
            print(
                f"{size:<5} {method:9} {interval.mean:8.3f} [{interval.low:.3f}, "
                f"{interval.high:.3f}]   {share:20.0%}",
                flush=True,
            )
            shares += [share] if method == "sparse" else []
        gaps = np.array(relative[str(size)]["sparse"]) - np.array(relative[str(size)]["lin-act"])
        interval = bootstrap_interval(gaps)
        lower.append(interval.high < 0)
        print(
            f"      sparse less lin-act {interval.mean:+.3f} [{interval.low:+.3f}, "
            f"{interval.high:+.3f}]"
        )
    once = [r for r in rows if r["method"] in ("at once", "lin-act")]
    overshoots = all(a["mean"] > 2 * b["mean"] for b, a in zip(once[::2], once[1::2], strict=True))
    return {
        "seeds": seeds, "rows": rows, "relative": relative,
        "criterion": "sparse below lin-act at 8 and 32 rows (95 % interval of the paired "
        "difference below 0), under half of the coordinates changed; at once costs over twice as "
        "much as one after another",
        "shown": bool(all(lower[:2]) and max(shares[:2]) < 0.5 and overshoots),
    }  # fmt: skip


def one_network(seed: int, size: int) -> dict[str, tuple[float, float]]:
    """Cost of every method relative to no edit, and the share of coordinates it changes."""
    torch.manual_seed(seed)
    layers = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(LAYERS)]
    for layer in layers:
        nn.init.normal_(layer[0].weight, std=1.2 / WIDTH**0.5)  # pyright: ignore[reportArgumentType]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, WIDTH)).eval()
    model.requires_grad_(requires_grad=False)
    moved = torch.randperm(WIDTH)[:MOVED]
    held, aimed = torch.randn(HELD_OUT, WIDTH), model(_target(HELD_OUT, moved))
    torch.manual_seed(1000 * seed + size)
    source, target = torch.randn(size, WIDTH), _target(size, moved)
    names = [str(number) for number in range(LAYERS)]

    def low() -> None:
        model(source)

    def high() -> None:
        model(target)

    fits: dict[str, Maps] = {
        "lin-act": lin_act(model, names, low, high),
        "at once": lin_act(model, names, low, high, incremental=False),
        "dense": linear_end_to_end(model, names, low, high, settings=DENSE),
        "sparse": linear_end_to_end(model, names, low, high, settings=SPARSE),
    }
    before = transport_cost(model(held), aimed)
    found = {}
    for name, maps in fits.items():
        with edited(model, maps, 1.0):
            cost = transport_cost(model(held), aimed) / before
        found[name] = (float(cost), active_share(maps))
    return found


def _target(count: int, moved: Tensor) -> Tensor:
    rows = torch.randn(count, WIDTH)
    rows[:, moved] = 0.6 * rows[:, moved] + 1.0
    return rows


def recommender_sweep(checkpoint: Path, fits: int, names: Sequence[str] | None) -> dict[str, Any]:
    """Attributes of what a recommender returns, as percentiles among items, and NDCG@10."""
    loaded = load_recommender(checkpoint)
    attributes = item_attributes(loaded.paths["tables"])
    learnt = learnt_histories(loaded.paths["tables"])
    table = read_artifact(loaded.paths["tables"], kind="reviews").table(INTERACTIONS)
    histories = Histories.from_interactions(table)
    asked = histories.prefixes(("test",), maximum_history=loaded.maximum_history)
    chosen = np.random.default_rng(0).permutation(len(asked))[:MOST_CONTEXTS]
    targets = histories.item_ids[(asked.starts + asked.lengths)[chosen]]
    batch = prefix_batch(
        chosen,
        windows(histories.item_ids, asked.starts[chosen], asked.lengths[chosen]),
        targets,
    )
    percentiles = {name: _percentiles(*attribute) for name, attribute in attributes.items()}
    discounts = 1 / np.log2(np.arange(RANK) + 2)

    def measured() -> Measured:
        with torch.no_grad():
            found = loaded.recommender.recommend(batch, count=RANK).item_ids
        ranks = target_ranks(found, torch.from_numpy(targets))
        items = found.numpy()
        return {
            **{
                name: np.nansum(values[items] * discounts, 1)
                / ((~np.isnan(values[items]) * discounts).sum(1) + 1e-9)
                for name, values in percentiles.items()
            },
            "quality": ndcg_at_k(*ranks, k=RANK).numpy().astype(np.float64),
        }

    def ends(name: str, seed: int, *, placebo: bool) -> Ends:
        values, known = attributes[name]
        if placebo:
            values = np.random.default_rng(seed).permutation(values)
        return attribute_ends(loaded, learnt, (values, known), count=32, share=0.25, seed=seed)

    return sweep(
        str(checkpoint), loaded.recommender, names or list(attributes), ends, measured, fits
    )


def _percentiles(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """From 0 to 1 among the items that have a value; NaN for others."""
    found = np.full(len(values), np.nan)
    found[known] = (rankdata(values[known]) - 0.5) / known.sum()
    return found


def planner_sweep(checkpoint: Path, fits: int, names: Sequence[str] | None) -> dict[str, Any]:
    """How plans are driven, in standard deviations over scenes, and minus the mean distance."""
    loaded = load_planner(checkpoint)
    kinds = ("scenes", "styles", "style_vectors")
    sources = {kind: read_artifact(loaded.paths[kind], kind=kind) for kind in kinds}
    samples = sources["styles"].table(SAMPLES)
    tests = np.flatnonzero((samples["split"] == "test").to_numpy())
    tests = np.random.default_rng(0).permutation(tests)[:MOST_CONTEXTS]
    rows = read_planning_rows(loaded.paths["scenes"], samples[tests])
    size = (len(tests), len(STYLE_DIMENSIONS))
    nothing = StyleCondition(torch.zeros(size), torch.zeros(size, dtype=torch.bool))

    def measured() -> Measured:
        poses = loaded.planner.plan(rows.scenes, nothing).best
        gaps = (poses - rows.future)[..., :2].norm(dim=-1) * rows.future_mask
        away = gaps.sum(1) / rows.future_mask.sum(1).clamp_min(1)
        return {**driven(poses), "quality": -away.numpy().astype(np.float64)}

    spread = {name: values.std() + 1e-9 for name, values in measured().items()}
    spread["quality"] = 1.0

    def scaled() -> Measured:
        return {name: values / spread[name] for name, values in measured().items()}

    def ends(name: str, seed: int, *, placebo: bool) -> Ends:
        if not placebo:
            return style_ends(loaded, sources, name, count=32, share=0.25, seed=seed)
        arrays = dict(sources["style_vectors"].arrays("style_vectors"))
        order = np.random.default_rng(seed).permutation(len(arrays["own_values"]))
        arrays["own_values"], arrays["own_mask"] = (
            arrays["own_values"][order],
            arrays["own_mask"][order],
        )
        shuffled = _Shuffled(sources["style_vectors"].folder, arrays)
        changed: Any = {**sources, "style_vectors": shuffled}
        return style_ends(loaded, changed, name, count=32, share=0.25, seed=seed)

    return sweep(str(checkpoint), loaded.planner, names or DRIVEN, ends, scaled, fits)


class _Shuffled:
    """Style vectors given to other samples."""

    def __init__(self, folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
        self.folder, self._arrays = folder, arrays

    def arrays(self, name: str) -> Mapping[str, np.ndarray]:
        """What the artifact would give."""
        return self._arrays


def driven(poses: Tensor) -> Measured:
    """Mean speed, peaks of acceleration, braking and lateral acceleration of plans."""
    places = torch.cat([torch.zeros_like(poses[:, :1]), poses], 1)
    steps = places.diff(dim=1)
    speed = steps[..., :2].norm(dim=-1) / STEP_S
    change = speed.diff(dim=1) / STEP_S
    turning = steps[..., 2] / STEP_S
    values = {
        "speed": speed.mean(1),
        "acceleration": change.amax(1),
        "braking": -change.amin(1),
        "lateral_acceleration": (speed * turning).abs().amax(1),
    }
    return {name: value.numpy().astype(np.float64) for name, value in values.items()}


def sweep(
    title: str,
    model: nn.Module,
    names: Sequence[str],
    ends: Callable[..., Ends],
    measured: Callable[[], Measured],
    fits: int,
) -> dict[str, Any]:
    """Every attribute: fits with several seeds, each tried at every strength."""
    modules = modules_matching(model, ENCODER_BLOCKS)
    plain = measured()
    print(f"\n{title}: quality without an edit {plain['quality'].mean():.4f}")
    print("attribute             maps      strength  shift wanted (95 %)        largest other"
          "   change of quality (95 %)")  # fmt: skip
    lines, verdicts = [], {}
    for name in names:
        shifts: dict[tuple[str, float], list[Measured]] = {}
        for seed in range(fits):
            for label in ("edits", "lin-act", "placebo"):
                try:
                    rows = ends(name, seed, placebo=label == "placebo")
                except TooFewRows as error:
                    print(f"{name}: {error}")
                    break
                if label == "lin-act":
                    maps = lin_act(model, modules, rows.low, rows.high)
                else:
                    maps = linear_end_to_end(model, modules, rows.low, rows.high, settings=SPARSE)
                for strength in STRENGTHS if label == "edits" else (1.0,):
                    with edited(model, maps, strength):
                        moved = measured()
                    shift = {key: moved[key] - plain[key] for key in plain}
                    shifts.setdefault((label, strength), []).append(shift)
        if not shifts:
            continue
        found = [_line(name, key, many) for key, many in shifts.items()]
        lines += found
        verdicts[name] = _verdict(found)
        print(f"{name:21} {verdicts[name]}")
    return {"lines": lines, "verdicts": verdicts, "fits": fits, "contexts": len(plain["quality"]),
            "quality": float(plain["quality"].mean())}  # fmt: skip


def _line(name: str, key: tuple[str, float], many: list[Measured]) -> dict[str, Any]:
    """Means over fits and contexts; intervals over contexts."""
    mean = {what: np.mean([one[what] for one in many], 0) for what in many[0]}
    own, quality = bootstrap_interval(mean[name]), bootstrap_interval(mean["quality"])
    others = {what: float(v.mean()) for what, v in mean.items() if what not in (name, "quality")}
    largest = max(others, key=lambda what: abs(others[what]))
    print(
        f"{name:21} {key[0]:9} {key[1]:+8.2f}  {own.mean:+.4f} [{own.low:+.4f}, {own.high:+.4f}]  "
        f"{largest[:12]:>12} {others[largest]:+.4f}  {quality.mean:+.4f} "
        f"[{quality.low:+.4f}, {quality.high:+.4f}]",
        flush=True,
    )
    return {"attribute": name, "maps": key[0], "strength": key[1], "shift": vars(own),
            "by_fit": [float(one[name].mean()) for one in many],
            "others": others, "quality": vars(quality)}  # fmt: skip


def _verdict(lines: list[dict[str, Any]]) -> dict[str, bool]:
    edits = {line["strength"]: line for line in lines if line["maps"] == "edits"}
    rising = [0.0] + [edits[s]["shift"]["mean"] for s in sorted(edits) if s > 0]
    placebo = next((line for line in lines if line["maps"] == "placebo"), None)
    return {
        "moves": edits[1.0]["shift"]["low"] > 0,
        "every_fit": min(edits[1.0]["by_fit"]) > 0,
        "monotone": all(a <= b for a, b in itertools.pairwise(rising)),
        "undone_below_zero": edits[-1.0]["shift"]["high"] < 0,
        "more_than_placebo": placebo is not None
        and edits[1.0]["shift"]["mean"] > abs(placebo["shift"]["mean"]),
        "quality_kept": edits[1.0]["quality"]["high"] >= 0,
    }


if __name__ == "__main__":
    main()
