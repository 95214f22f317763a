"""Attribute strengths from comparisons, and picking the candidate whose strengths come closest.

Sequences of four features, two of them beside the point, hide two attributes: how fast and how
restless. An ensemble learns them from 1,000 comparisons each, near ones ties and a tenth wrong.
Then candidates of a generator that obeys only roughly are picked by predicted strengths, over a
grid of targets, and judged by the hidden attributes. With `--drives` the strengths of logged drives
are learnt from comparisons of their styles and judged on drives of other recordings.
"""

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from safetensors.numpy import load_file
from scipy.stats import ks_2samp
from torch import Tensor

from data_prep.artifact import read_artifact
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.scene_store import SceneStore
from driving.style.tables import SAMPLES
from personalize.evaluation.intervals import bootstrap_interval
from personalize.evaluation.rank_correlation import rank_correlation
from personalize.preference_optimization.comparisons import Comparisons, comparison_accuracy
from personalize.rewards.attribute_strengths import AttributeStrengths, fit_attribute_strengths
from personalize.rewards.bradley_terry import RewardTraining
from personalize.steering.goals import Goals, closeness

STEPS, SEQUENCES, COMPARED = 16, 1000, 1000
NAMES = ("fast", "restless")
ASKED = ("speed", "acceleration", "braking", "jerk", "lateral_acceleration", "time_gap")
CANDIDATES, GUIDANCE, SPREAD = (1, 16, 64), (1.0, 1.5, 3.0), 0.2
TIE_GAP, DRIVES, DRIVE_PAIRS = 0.1, 800, 1000
TRAINING = RewardTraining(steps=250, batch_size=64, learning_rate=2e-3)
CRITERION = (
    "held-out comparisons right on more than 0.9 for both attributes; the error of the picked "
    "candidate at 64 is below half of that at 1; an attribute left open keeps its distribution "
    "(Kolmogorov-Smirnov distance below 0.1)"
)


def main() -> None:
    """Run all seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--drives", type=Path, nargs="*", default=[], help="with scenes and styles")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    found: dict[str, Any] = {"toy": experiment(tuple(range(options.seeds)))}
    for folder in options.drives:
        found[f"drives {folder}"] = drives(folder, tuple(range(min(options.seeds, 3))))
    for name, result in found.items():
        print(f"{name}:")
        for measure, value in result["measures"].items():
            print(
                f"  {measure:52} {value['mean']:6.3f}  [{value['low']:6.3f}, {value['high']:6.3f}]"
            )
    if options.json:
        print(json.dumps({**found, "criterion": CRITERION, "shown": found["toy"]["shown"]}))


def experiment(seeds: tuple[int, ...]) -> dict[str, Any]:
    """All measures over seeds, and whether the criterion is met."""
    rows = [one_seed(seed) for seed in seeds]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    measures = {name: vars(bootstrap_interval(values)) for name, values in columns.items()}
    shown = (
        min(measures[f"held-out comparisons right, {name}"]["mean"] for name in NAMES) > 0.9
        and (
            columns["error by rank, 64 candidates, w 1"]
            < columns["error by rank, 1 candidates, w 1"] / 2
        ).all()
        and (columns["distance of the open attribute, 16 candidates"] < 0.1).all()
    )
    return {"measures": measures, "seeds": list(seeds), "shown": bool(shown)}


def one_seed(seed: int) -> dict[str, float]:
    """One draw of sequences and comparisons."""
    generator = torch.Generator().manual_seed(seed)
    wanted = torch.rand(2 * SEQUENCES, 2, generator=generator)
    sequences = realised(wanted, generator)
    shown = attributes(sequences)
    train, test = slice(0, SEQUENCES), slice(SEQUENCES, None)
    limits = shown[train].aminmax(dim=0)
    low, high = limits.min, limits.max
    mask = torch.ones(2 * SEQUENCES, STEPS, dtype=torch.bool)
    answers = [
        compared((shown[train, k] - low[k]) / (high[k] - low[k]), generator) for k in range(2)
    ]
    build = partial(AttributeStrengths, 4, NAMES, width=32, heads=2, layers=1)
    model = fit_attribute_strengths(
        sequences[train], mask[train], answers, build=build, training=replace(TRAINING, seed=seed)
    )
    with torch.no_grad():
        strengths = model(sequences[test], mask[test])
    result = {}
    for number, name in enumerate(NAMES):
        truth = (shown[test, number] - low[number]) / (high[number] - low[number])
        held = compared(truth, generator, wrong=0.0)
        sure = held.rows((held.strength > 0).nonzero()[:, 0])
        right = comparison_accuracy(strengths[:, number], sure)
        result[f"held-out comparisons right, {name}"] = float(right.mean())
        result[f"Spearman with the truth, {name}"] = rank_correlation(
            strengths[:, number].numpy(), truth.numpy()
        )
    return result | picked(model, shown[train], generator)


def picked(
    model: AttributeStrengths, scale: Tensor, generator: torch.Generator
) -> dict[str, float]:
    """Errors of picked candidates over a grid of targets, and what an open attribute does.

    `scale` holds the true attributes of the sequences that were learnt from: by their ranks or
    their extremes what was got is put from 0 to 1, as the targets are.
    """
    grid = torch.cartesian_prod(*[torch.linspace(0.1, 0.9, 5)] * 2).repeat(4, 1)
    asked = torch.ones_like(grid, dtype=torch.bool)
    result = {}
    for weight in GUIDANCE:
        for count in CANDIDATES:
            if weight > 1 and count == 64:
                continue
            goals = Goals(grid, asked)
            got, said = _pick(model, scale, goals, count, generator, weight=weight)
            name = f"{count} candidates, w {weight:g}"
            result[f"error by rank, {name}"] = float((got - grid).abs().mean())
            result[f"error of the predicted rank, {name}"] = float((said - grid).abs().mean())
    for count in CANDIDATES:
        goals = Goals(grid, asked)
        got, said = _pick(model, scale, goals, count, generator, by_rank=False)
        result[f"error by extremes, {count} candidates"] = float((got - grid).abs().mean())
        result[f"error of the predicted strength, {count} candidates"] = float(
            (said - grid).abs().mean()
        )
    only = torch.tensor([True, False]).expand(400, 2)
    target = torch.stack([torch.full((400,), 0.7), torch.zeros(400)], 1)
    open_goals = Goals(target, only)
    free = _pick(model, scale, open_goals, 1, generator)[0][:, 1]
    chosen = _pick(model, scale, open_goals, 16, generator)[0][:, 1]
    distance = ks_2samp(free.numpy(), chosen.numpy())[0]
    result["distance of the open attribute, 16 candidates"] = float(np.asarray(distance))
    return result


def _pick(
    model: AttributeStrengths,
    scale: Tensor,
    goals: Goals,
    count: int,
    generator: torch.Generator,
    *,
    weight: float = 1.0,
    by_rank: bool = True,
) -> tuple[Float[Tensor, "row attribute"], Float[Tensor, "row attribute"]]:
    """True and predicted attributes of the candidate whose prediction comes closest."""
    rows = len(goals.values)
    centre = torch.where(goals.mask, 0.5 + weight * (goals.values - 0.5), 0.5)
    noise = torch.randn(rows, count, 2, generator=generator)
    wanted = (centre[:, None] + SPREAD * noise).clamp(0, 1).flatten(0, 1)
    sequences = realised(wanted, generator)
    mask = torch.ones(len(sequences), STEPS, dtype=torch.bool)
    with torch.no_grad():
        predicted = torch.cat(
            [
                (model.ranks if by_rank else model)(part, kept)
                for part, kept in zip(sequences.split(2000), mask.split(2000), strict=True)
            ]
        )
    best = closeness(predicted.view(rows, count, 2), goals).argmax(1)
    picked = torch.arange(rows) * count + best
    shown = attributes(sequences)[picked]
    low, high = scale.aminmax(dim=0)
    extremes = (shown - low) / (high - low)
    ranks = (scale[None] < shown[:, None]).float().mean(1)
    return (ranks if by_rank else extremes), predicted[picked]


def realised(
    wanted: Float[Tensor, "row 2"], generator: torch.Generator
) -> Float[Tensor, "row step 4"]:
    """Sequences that are about as fast and as restless as wanted."""
    rows = len(wanted)
    noise = torch.randn(rows, STEPS, 4, generator=generator)
    sequences = noise.clone()
    slow = noise[..., 0].cumsum(1) / STEPS
    sequences[..., 0] = 2 * wanted[:, :1] + 0.3 * slow
    sequences[..., 1] = (0.1 + wanted[:, 1:]) * noise[..., 1]
    return sequences


def attributes(sequences: Float[Tensor, "row step 4"]) -> Float[Tensor, "row 2"]:
    """The hidden attributes: mean of the first feature, mean change of the second."""
    return torch.stack([sequences[..., 0].mean(1), sequences[..., 1].diff(dim=1).abs().mean(1)], 1)


def compared(
    values: Float[Tensor, " row"],
    generator: torch.Generator,
    *,
    wrong: float = 0.1,
    count: int = COMPARED,
) -> Comparisons:
    """Comparisons of random rows: close ones are ties, some of the others are wrong."""
    first = torch.randint(len(values), (count,), generator=generator)
    step = torch.randint(1, len(values), (count,), generator=generator)
    pairs = torch.stack([first, (first + step) % len(values)], 1)
    gap = values[pairs[:, 0]] - values[pairs[:, 1]]
    swapped = (gap < 0) ^ (torch.rand(count, generator=generator) < wrong)
    pairs = torch.where(swapped[:, None], pairs.flip(1), pairs)
    return Comparisons(pairs[:, 0], pairs[:, 1], (gap.abs() > TIE_GAP).float())


def drives(folder: Path, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Strengths of logged drives, learnt from comparisons of the styles that rules read in them."""
    learnt, held = (logged(folder, split) for split in (("train",), ("validation", "test")))
    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        answers = [
            compared_known(learnt[1][:, k], learnt[2][:, k], generator) for k in range(len(ASKED))
        ]
        build = partial(AttributeStrengths, learnt[0].shape[-1], ASKED, width=32, heads=2, layers=1)
        model = fit_attribute_strengths(
            learnt[0], torch.ones(learnt[0].shape[:2], dtype=torch.bool), answers, build=build,
            training=replace(TRAINING, seed=seed, steps=300),
        )  # fmt: skip
        with torch.no_grad():
            strengths = model(held[0], torch.ones(held[0].shape[:2], dtype=torch.bool))
        row = {}
        for number, name in enumerate(ASKED):
            known, truth = held[2][:, number], held[1][:, number]
            judged = compared_known(truth, known, generator, wrong=0.0)
            sure = judged.rows((judged.strength > 0).nonzero()[:, 0])
            right = comparison_accuracy(strengths[:, number], sure).mean()
            row[f"held-out comparisons right, {name}"] = float(right)
            rank = rank_correlation(strengths[known, number].numpy(), truth[known].numpy())
            row[f"Spearman with the rule, {name}"] = rank
        rows.append(row)
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    measures = {name: vars(bootstrap_interval(values)) for name, values in columns.items()}
    return {
        "measures": measures, "drives": len(learnt[0]), "held_out": len(held[0]),
        "seeds": list(seeds),
    }  # fmt: skip


def compared_known(
    values: Tensor, known: Tensor, generator: torch.Generator, *, wrong: float = 0.1
) -> Comparisons:
    """Comparisons among the rows whose value is known."""
    rows = known.nonzero()[:, 0]
    found = compared(values[rows], generator, wrong=wrong, count=DRIVE_PAIRS)
    return Comparisons(rows[found.better], rows[found.worse], found.strength)


def logged(folder: Path, splits: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Four seconds of drives every 0.2 s, their style values and which of them are known."""
    store = SceneStore.read(folder / "scenes")
    samples = read_artifact(folder / "styles", kind="styles").table(SAMPLES)
    some = samples.filter(pl.col("split").is_in(splits))
    some = some[np.unique(np.linspace(0, some.height - 1, min(DRIVES, some.height)).astype(int))]
    parts = []
    for start in range(0, some.height, 128):
        world = store.world(some[start : start + 128], history_s=0.0, future_s=4.0)
        speed, heading = world.ego_speed_mps, world.ego_poses[..., 2]
        acceleration = speed.diff(dim=1) / world.step_s
        turning = torch.atan2(heading.diff(dim=1).sin(), heading.diff(dim=1).cos()) / world.step_s
        lateral = turning * speed[:, 1:]
        each = torch.stack([speed[:, 1:], acceleration, turning, lateral], -1)
        parts.append(each[:, : each.shape[1] // 2 * 2].unflatten(1, (-1, 2)).mean(2))
    arrays = load_file(folder / "styles" / "styles.safetensors")
    rows, chosen = some["sample_id"].to_numpy(), [STYLE_DIMENSIONS.index(name) for name in ASKED]
    values = torch.as_tensor(arrays["values"][rows][:, chosen])
    return torch.cat(parts), values, torch.as_tensor(arrays["mask"][rows][:, chosen])


if __name__ == "__main__":
    main()
