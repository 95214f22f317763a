"""Self-made negative models against plain classifier-free guidance, at the same weights.

Three generators: the planner of a run, the same trained for a few steps only, and a Mender-Emb.
Each gets negative copies by truncated fine-tuning, one per seed. A row is a scene and an extreme
style, or a question with a preference. The reward is how far the plan's style goes to the asked
end, from -1 to 1, or NDCG@10 of the item that the preference is about; validity is that the plan
touches nobody and stays on the road (every item is valid: 1). Differences are those to plain
guidance of the same weight, row by row, the mean over seeds, with 95 % intervals.

The method shows its effect on a generator if over all weights the reward is higher, with an
interval above 0, and the validity is not lower, with an interval that does not lie below 0.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.optim import AdamW

from data_prep.artifact import read_artifact
from data_prep.schema import BENCHMARK_ROWS
from driving.contrastive import ContrastivePlanner
from driving.data import DrivingDataModule
from driving.evaluation.conditions import asked_styles
from driving.evaluation.drive import sample_labels
from driving.evaluation.driven_style import StyleReader, measured
from driving.evaluation.judge import driven_world, scored, tracked, yardstick
from driving.load import LoadedPlanner, load_planner
from driving.negative import negative_planner, training_contexts
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.learned import LearnedPlanner
from driving.planner.pdm import Pdm
from driving.planner.planner import Planner, PlannerInput, StyleCondition
from driving.planner_input import planner_input
from driving.scene_store import SceneStore
from driving.style.tables import SAMPLES
from personalize.checkpoint import KIND
from personalize.configured_class import built_again
from personalize.evaluation.intervals import paired_comparison
from personalize.negative_copy import FineTuning
from recsys.answers import AskingOptions, ask, distinct_questions
from recsys.load import load_recommender
from recsys.negative import SelfSampling, TrainingContexts, negative_recommender
from recsys.ranking import ndcg_at_k, target_ranks
from recsys.recommender import Filters, Recommendations, Recommender
from recsys.retriever.guidance import ContrastiveDecoder
from recsys.retriever.mender_emb import MenderEmb

STYLES_ASKED = ("aggressive", "conservative")
ASKED_OF_ITEMS = (("recommendation", "oracle"), ("fine_steering", "stated"))
GENERATORS = ("under-trained planner", "planner", "mender_emb")
CONTEXTS = 512
UNDER_TRAINED_SAMPLES = 800


@dataclass(frozen=True)
class Outcome:
    """Reward and validity of every row, and what rows belong together: a scene, a person."""

    reward: np.ndarray
    valid: np.ndarray
    groups: np.ndarray


Evaluate = Callable[[str, float, int], Outcome]
"""(variant, weight, seed) -> outcome; the variants are `plain`, `npo` and `told`."""


def main() -> None:
    """Measure, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--planner", type=Path, default=Path("runs/demo-driving/fit/diffusion"))
    add("--driving", type=Path, default=Path("runs/demo-driving"), help="its artifacts")
    add("--recommender", type=Path, default=Path("runs/demo/fit/mender_emb"))
    add("--benchmark", type=Path, default=Path("runs/demo/benchmark"))
    add("--samples", type=int, default=128, help="test scenes (default: %(default)s)")
    add("--weights", type=float, nargs="+", default=[1.5, 2.0, 3.0])
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--steps", type=int, default=200, help="of fine-tuning (default: %(default)s)")
    add("--training-steps", type=int, default=250, help="of the under-trained planner")
    add("--only", nargs="+", choices=GENERATORS, default=list(GENERATORS), help="these generators")
    add("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    verdicts: dict[str, bool] = {}
    for name, evaluate in evaluations(options):
        found = compared(name, evaluate, options.weights, options.seeds)
        rows += found
        (verdicts[name],) = (
            row["shown"] for row in found if (row["variant"], row["weight"]) == ("npo", "all")
        )
    if options.json:
        print(
            json.dumps(
                {
                    "method": "self_npo",
                    "criterion": "reward above plain guidance at no lower validity, over weights",
                    "seeds": options.seeds,
                    "steps": options.steps,
                    "training_steps": options.training_steps,
                    "rows": rows,
                    "verdicts": verdicts,
                    "shown": all(verdicts.values()),
                }
            )
        )


def evaluations(options: argparse.Namespace) -> Iterator[tuple[str, Evaluate]]:
    """The generators that are asked for, each opened when it is its turn."""
    driving = [name for name in options.only if name != "mender_emb"]
    if driving:
        loaded = load_planner(options.planner)
        loaded = replace(loaded, paths={name: options.driving / name for name in loaded.paths})
        scenes = PlannedScenes.read(loaded, options.samples)
        for name in driving:
            planner = loaded.planner
            if name == "under-trained planner":
                planner = under_trained(loaded, options.training_steps)
            yield name, planner_evaluation(planner, loaded, scenes, options.steps)
    if "mender_emb" in options.only:
        yield (
            "mender_emb",
            recommender_evaluation(options.recommender, options.benchmark, options.steps),
        )


def compared(
    name: str, evaluate: Evaluate, weights: Sequence[float], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Rows of the table: each weight and variant, and all weights together."""
    print(f"\n{name}\nweight variant  reward  plain   difference [95 %]             valid   "
          "difference [95 %]", flush=True)  # fmt: skip
    start = evaluate("plain", 1.0, 0)
    print(
        f"  1.0  none    {start.reward.mean():7.4f}{'':37}  {start.valid.mean():7.4f}", flush=True
    )
    plain = {weight: evaluate("plain", weight, 0) for weight in weights}
    rows: list[dict[str, Any]] = []
    for variant, chosen in (("told", seeds[:1]), ("npo", seeds)):
        every = {
            weight: averaged([evaluate(variant, weight, seed) for seed in chosen])
            for weight in weights
        }
        rows += [
            row_of(name, variant, weight, every[weight], plain[weight], seeds=len(chosen))
            for weight in weights
        ]
        together = averaged(list(every.values())), averaged(list(plain.values()))
        rows.append(row_of(name, variant, "all", *together, seeds=len(chosen)))
    return rows


def averaged(outcomes: Sequence[Outcome]) -> Outcome:
    """The mean of several outcomes of the same rows."""
    rewards, valid = ([getattr(one, name) for one in outcomes] for name in ("reward", "valid"))
    return Outcome(np.mean(rewards, 0), np.mean(valid, 0), outcomes[0].groups)


def row_of(
    name: str, variant: str, weight: float | str, mine: Outcome, plain: Outcome, *, seeds: int
) -> dict[str, Any]:
    """One row of the table, printed."""
    groups = mine.groups
    reward = paired_comparison(mine.reward, plain.reward, groups=groups, resamples=4000)
    valid = paired_comparison(mine.valid, plain.valid, groups=groups, resamples=4000)
    gained, kept = reward.difference, valid.difference
    row = {
        "generator": name, "variant": variant, "weight": weight, "seeds": seeds,
        "reward": float(mine.reward.mean()), "plain_reward": float(plain.reward.mean()),
        "reward_difference": [gained.mean, gained.low, gained.high],
        "valid": float(mine.valid.mean()), "plain_valid": float(plain.valid.mean()),
        "valid_difference": [kept.mean, kept.low, kept.high],
        "p_value": reward.p_value, "rows": len(mine.reward),
        "shown": gained.low > 0 and kept.high >= 0,
    }  # fmt: skip
    print(
        f"{weight:>5}  {variant:6}  {row['reward']:7.4f} {row['plain_reward']:7.4f}  "
        f"{gained.mean:+.4f} [{gained.low:+.4f}, {gained.high:+.4f}]  {row['valid']:7.4f}  "
        f"{kept.mean:+.4f} [{kept.low:+.4f}, {kept.high:+.4f}]",
        flush=True,
    )
    return row


@dataclass(frozen=True)
class PlannedScenes:
    """Test scenes with all that plans in them are judged by, made once."""

    world: Any
    scene: PlannerInput
    by: Any
    reader: StyleReader

    @classmethod
    def read(cls, loaded: LoadedPlanner, count: int) -> "PlannedScenes":
        """So many test samples, evenly spread."""
        styles = read_artifact(loaded.paths["styles"], kind="styles")
        store = SceneStore.read(loaded.paths["scenes"])
        samples = styles.table(SAMPLES).filter(pl.col("split") == "test")
        samples = samples[np.linspace(0, samples.height - 1, count).round().astype(np.int64)]
        world = store.world(samples, history_s=1.0, future_s=5.2)
        with torch.inference_mode():
            scene = planner_input(world, world.now)
            labels = sample_labels(styles, samples)
            by = yardstick(world, scene, store.drivable_area(), labels, Pdm())
        return cls(world, scene, by, StyleReader.of(styles))

    def outcome(self, planner: Planner) -> Outcome:
        """How far plans go to the asked end of the styles, and whether they are safe."""
        ids = self.world.sample_ids.numpy()
        rewards, valid = [], []
        with torch.inference_mode():
            for condition in STYLES_ASKED:
                style = asked_styles(condition, None, ids)
                ride = tracked(self.scene, planner.plan(self.scene, style).best)
                scores = scored(self.world, ride, self.by)
                whole, windows = measured(driven_world(self.world, ride), 40)
                driven = self.reader.read(ids, windows, whole)
                toward = (driven.values * style.values.numpy() * driven.mask).sum(1)
                rewards.append(toward / np.maximum(driven.mask.sum(1), 1))
                valid.append((scores["no_collision"] * scores["drivable_area"]).numpy())
        groups = np.tile(ids, len(STYLES_ASKED)).astype(np.int64)
        return Outcome(np.concatenate(rewards), np.concatenate(valid).astype(np.float64), groups)


def under_trained(loaded: LoadedPlanner, steps: int) -> DiffusionPlanner:
    """A planner of the same configuration after a few steps."""
    source = read_artifact(loaded.folder, kind=KIND)
    torch.manual_seed(0)
    planner = built_again(source, loaded.configuration["model"]["planner"], LearnedPlanner)
    paths: dict[str, Any] = dict(loaded.paths)
    data = DrivingDataModule(**paths, maximum_samples=UNDER_TRAINED_SAMPLES)
    data.setup("fit")
    planner.survey(*data.training_futures())
    optimizer, step = AdamW(planner.parameters(), lr=1e-3), 0
    while step < steps:
        for batch in data.train_dataloader():
            optimizer.zero_grad()
            planner.loss(batch)["loss"].backward()
            torch.nn.utils.clip_grad_norm_(planner.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step == steps:
                break
    return planner.eval()  # pyright: ignore[reportReturnType]


def planner_evaluation(
    planner: LearnedPlanner, loaded: LoadedPlanner, scenes: PlannedScenes, steps: int
) -> Evaluate:
    """How a planner's variants are evaluated; negative copies are made once per seed."""
    if not isinstance(planner, DiffusionPlanner):
        raise SystemExit("--planner must hold a DiffusionPlanner.")
    made: dict[tuple[str, int], DiffusionPlanner] = {}
    contexts: list[tuple[PlannerInput, StyleCondition]] = []

    def evaluate(variant: str, weight: float, seed: int) -> Outcome:
        if variant == "plain":
            return scenes.outcome(ContrastivePlanner(planner, planner, weight))
        if not contexts:
            contexts.append(training_contexts(loaded, CONTEXTS))
        if (variant, seed) not in made:
            settings = FineTuning(steps=steps, seed=seed)
            told = variant == "told"
            made[variant, seed] = negative_planner(planner, *contexts[0], settings, told=told)
        return scenes.outcome(ContrastivePlanner(planner, made[variant, seed], weight))

    return evaluate


class Contrasted(Recommender):
    """A Mender-Emb that searches with a contrast."""

    uses_preferences = True

    def __init__(self, positive: MenderEmb, negative: MenderEmb, weight: float) -> None:
        super().__init__()
        self.positive, self.decoder = positive, ContrastiveDecoder(positive, negative, weight)

    def loss(self, batch: Any) -> Tensor:  # noqa: ANN401
        """Nothing is learnt."""
        return torch.zeros(())

    def recommend(
        self, batch: Any, *, count: int, filters: Filters | None = None  # noqa: ANN401
    ) -> Recommendations:  # fmt: skip
        """The best items by beam search under the contrast."""
        positive = self.positive
        return positive.search(self.decoder, batch, positive.trie, count=count, filters=filters)


def recommender_evaluation(checkpoint: Path, benchmark: Path, steps: int) -> Evaluate:
    """How a recommender's variants are evaluated.

    `npo` learns from its own answers to no preferences, drawn with a top-p of 0.9; `told` from all
    of them, with a top-p of 1, which should change nothing but what it forgets.
    """
    loaded = load_recommender(checkpoint)
    recommender = loaded.recommender
    if not isinstance(recommender, MenderEmb):
        raise SystemExit("--recommender must hold a Mender-Emb.")
    every = read_artifact(benchmark, kind="benchmark").table(BENCHMARK_ROWS)
    rows = pl.concat(
        [every.filter(axis=axis, condition=condition) for axis, condition in ASKED_OF_ITEMS]
    )
    questions, numbers = distinct_questions(rows)
    targets = torch.from_numpy(rows["target_item_id"].to_numpy().astype(np.int64))
    people = rows["user_id"].to_numpy().astype(np.int64)
    contexts = TrainingContexts.of(loaded)
    made: dict[tuple[str, int], Recommender] = {}
    sampling: Mapping[str, SelfSampling] = {
        "npo": SelfSampling(top_p=0.9, candidates=50),
        "told": SelfSampling(top_p=1.0, candidates=100),
    }

    def evaluate(variant: str, weight: float, seed: int) -> Outcome:
        negative: Recommender = recommender
        if variant != "plain":
            if (variant, seed) not in made:
                settings = FineTuning(steps, batch_size=128, learning_rate=2e-4, seed=seed)
                made[variant, seed] = negative_recommender(
                    recommender, contexts, settings, sampling[variant]
                )
            negative = made[variant, seed]
        if not isinstance(negative, MenderEmb):
            raise SystemExit("a negative copy is of the class of its source.")
        answers = ask(
            Contrasted(recommender, negative, weight).eval(), questions, AskingOptions(count=10)
        )
        items = torch.from_numpy(answers.item_ids[numbers.to_numpy()])
        gains = ndcg_at_k(*target_ranks(items, targets), k=10).double().numpy()
        return Outcome(gains, np.ones_like(gains), people)

    return evaluate


if __name__ == "__main__":
    main()
