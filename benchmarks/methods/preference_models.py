"""Which model of preference predicts labels best that it has not seen: score, rotation or regret?

Walks of three steps through a random world of 12 states with three features; 600 pairs of walks
from different states are labelled by how people might judge: by the rewards met on the way
(`partial return`), by what was missed from where the walk began (`regret`), or by a vote of three
judges who each look at one feature (`majority`), which now and then goes in a circle, or by who
lies up to half a turn ahead in the plane of two features (`circle`), which always does. Every model
sees the same features of a walk: what was collected, and the successor features of some policies,
none of which is the best under the true reward, where it starts and ends. How long each learns and
its temperature are chosen on 300 other pairs. Held-out log-loss in nats beside that of the law that
labelled.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from personalize.evaluation.intervals import bootstrap_interval
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.contrasts import DPO
from personalize.rewards.bradley_terry import RewardTraining, seeded, train
from personalize.rewards.feature_comparisons import FeatureComparisons, FeatureTable
from personalize.rewards.heads import ScalarHead, SkewSymmetricHead
from personalize.rewards.preference_calibration import (
    fitted_temperature,
    preference_accuracy,
    preference_log_loss,
)
from personalize.rewards.preference_model import (
    LayeredEncoder,
    PlainFeatures,
    PreferenceHead,
    PreferenceModel,
    Sizes,
)
from personalize.rewards.regret import RegretHead, regret_features, successor_features

STATES, FEATURES, ACTIONS, STEPS, DISCOUNT, POLICIES = 12, 3, 3, 3, 0.8, 8
WALKS, PAIRS, CHECKED, TEST, SHARPNESS = 800, 600, 300, 4000, 3.0
LAWS = ("partial return", "regret", "majority", "circle")
LENGTHS = (50, 100, 200)
"""Steps after each of which the model is looked at."""
MODELS = ("partial return", "regret", "score", "rotation")
CRITERION = (
    "regret labels: the regret model's log-loss lies below partial return's; labels by partial "
    "return: the other way round, and the rotation's less the score's is below 0.05; circles: "
    "the rotation's lies below the score's (95 % intervals of paired differences over seeds)"
)


def main() -> None:
    """Run all seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = tuple(range(options.seeds))
    found = {law: experiment(law, seeds) for law in LAWS}
    for law, measures in found.items():
        print(f"labels by {law}:")
        for name, value in measures.items():
            print(f"  {name:32} {value['mean']:7.4f}  [{value['low']:7.4f}, {value['high']:7.4f}]")
    if options.json:
        shown = is_shown(found)
        print(json.dumps({**found, "seeds": list(seeds), "criterion": CRITERION, "shown": shown}))


def is_shown(found: dict[str, dict[str, Any]]) -> bool:
    """Whether the criterion is met."""
    ordered = found["partial return"]
    return bool(
        found["regret"]["partial return - regret"]["low"] > 0
        and ordered["partial return - regret"]["high"] < 0
        and ordered["score - rotation"]["low"] > -0.05
        and found["circle"]["score - rotation"]["low"] > 0
    )


def experiment(law: str, seeds: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Held-out log-loss and accuracy of every model over seeds, and the differences."""
    rows = [one_seed(law, seed) for seed in seeds]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    for name in MODELS:
        for other in ("regret", "rotation"):
            if name != other:
                columns[f"{name} - {other}"] = columns[name] - columns[other]
    return {name: vars(bootstrap_interval(values)) for name, values in columns.items()}


def one_seed(law: str, seed: int) -> dict[str, float]:
    """One world, one true reward, all models."""
    generator = Generator().manual_seed(seed)
    world = World(generator)
    table = FeatureTable.of(torch.zeros(WALKS, 1), world.features)
    training, checked, held_out = (
        world.labelled(law, count, generator) for count in (PAIRS, CHECKED, TEST)
    )
    result = {"the law itself": float(world.surprise(law, held_out).mean())}
    batch = table.compared(held_out)
    for name in MODELS:
        logit = chosen_logits(fitted(name, table, training, seed), table.compared(checked), batch)
        result[name] = float(preference_log_loss(logit, torch.ones_like(logit)).mean())
        result[f"accuracy, {name}"] = float(preference_accuracy(logit).mean())
    return result


class World:
    """States that actions lead on from, a true reward, and random walks.

    Attributes:
        features: `regret_features` of every walk.
    """

    def __init__(self, generator: Generator) -> None:
        self.next = torch.randint(STATES, (STATES, ACTIONS), generator=generator)
        self.met = torch.randn(STATES, FEATURES, generator=generator)
        self.reward = torch.randn(FEATURES, generator=generator)
        tastes = torch.randn(POLICIES, FEATURES, generator=generator)
        successors = torch.stack([self._successors(taste) for taste in tastes])
        states = self._walks(generator)
        self.collected = sum(
            DISCOUNT**step * self.met[states[:, step]] for step in range(STEPS)
        ) + torch.zeros(WALKS, FEATURES)
        self.start, self.end = states[:, 0], states[:, -1]
        ended = DISCOUNT**STEPS * successors[:, self.end]
        self.features = regret_features(
            self.collected, successors[:, self.start].transpose(0, 1), ended.transpose(0, 1)
        )
        self.value = self._successors(self.reward) @ self.reward

    def logits(self, law: str, rows: Int[Tensor, "pair 2"]) -> Float[Tensor, " pair"]:
        """Of "the first is preferred" under a law, sharp enough to be told from chance."""
        gained = self.collected @ self.reward
        if law == "circle":
            angle = torch.atan2(self.collected[:, 0], self.collected[:, 1])
            return SHARPNESS * (angle[rows[:, 0]] - angle[rows[:, 1]]).sin().sign()
        if law == "majority":
            leads = self.collected[rows[:, 0]] - self.collected[rows[:, 1]]
            return SHARPNESS * (2 * (leads > 0).float() - 1).sum(-1).sign()
        short = gained + DISCOUNT**STEPS * self.value[self.end] - self.value[self.start]
        score = gained if law == "partial return" else short
        return SHARPNESS * (score[rows[:, 0]] - score[rows[:, 1]]) / score.std()

    def labelled(self, law: str, count: int, generator: Generator) -> ComparedRows:
        """Random pairs of walks, the one that was preferred first."""
        first = torch.randint(WALKS, (count,), generator=generator)
        step = torch.randint(1, WALKS, (count,), generator=generator)
        rows = torch.stack([first, (first + step) % WALKS], 1)
        wins = torch.rand(count, generator=generator) < self.logits(law, rows).sigmoid()
        return ComparedRows.of(torch.where(wins[:, None], rows, rows.flip(1)), law)

    def surprise(self, law: str, pairs: ComparedRows) -> Float[Tensor, " pair"]:
        """Of who knows the law."""
        logit = self.logits(law, pairs.rows)
        return preference_log_loss(logit, torch.ones_like(logit))

    def _successors(self, taste: Float[Tensor, " feature"]) -> Float[Tensor, "state feature"]:
        """Successor features of the best policy under a taste, by value iteration."""
        value = torch.zeros(STATES)
        for _ in range(100):
            value = self.met @ taste + DISCOUNT * value[self.next].amax(-1)
        best = value[self.next].argmax(-1)
        chosen = self.next.gather(1, best[:, None])[:, 0]
        moves = torch.nn.functional.one_hot(chosen, STATES).float()
        return successor_features(moves, self.met, discount=DISCOUNT)

    def _walks(self, generator: Generator) -> Int[Tensor, "walk place"]:
        states = [torch.randint(STATES, (WALKS,), generator=generator)]
        for _ in range(STEPS):
            action = torch.randint(ACTIONS, (WALKS,), generator=generator)
            states.append(self.next[states[-1], action])
        return torch.stack(states, 1)


def chosen_logits(
    models: Iterator[PreferenceModel], checked: FeatureComparisons, asked: FeatureComparisons
) -> Float[Tensor, " pair"]:
    """What the model says where it is best on the pairs that check it, at its best temperature."""
    least, best = float("inf"), torch.zeros(len(asked))
    share = torch.ones(len(checked))
    for model in models:
        with torch.no_grad():
            told, said = model.logit(checked), model.logit(asked)
        temperature = fitted_temperature(told, share)
        surprise = float(preference_log_loss(told / temperature, share).mean())
        if surprise < least:
            least, best = surprise, said / temperature
    return best


def fitted(
    name: str, table: FeatureTable, training: ComparedRows, seed: int
) -> Iterator[PreferenceModel]:
    """A model of preference, again and again while it learns."""
    sizes = Sizes(1, table.response.shape[1])
    linear = name in ("partial return", "regret")
    heads: dict[str, Callable[[int], PreferenceHead]] = {
        "partial return": lambda width: RegretHead(sizes, width, policies=POLICIES, regret=False),
        "regret": lambda width: RegretHead(sizes, width, policies=POLICIES, softness=0.1),
        "score": lambda width: ScalarHead(sizes, width),
        "rotation": lambda width: SkewSymmetricHead(sizes, width, blocks=2, temperature=1.0),
    }

    def build() -> PreferenceModel:
        encoder = PlainFeatures(sizes) if linear else LayeredEncoder(sizes, width=32, layers=1)
        return PreferenceModel(encoder, heads[name](encoder.width))

    model, contrast = seeded(build, seed), DPO(beta=1.0)
    rate = 3e-2 if linear else 3e-3
    for steps in LENGTHS:
        train(
            model,
            lambda drawn: model.loss(table.compared(training, drawn), contrast),
            len(training),
            RewardTraining(steps=steps, learning_rate=rate, weight_decay=1e-1, seed=seed),
        )
        yield model


if __name__ == "__main__":
    main()
