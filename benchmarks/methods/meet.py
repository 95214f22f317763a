"""Control tokens in two stages or jointly with the model: which follows its token further?

A small transformer reads a sequence and predicts its last token. It is trained first without any
level (the tokens for none in front). Then the same number of steps teaches it levels: jointly, or
control tokens alone for the first half and everything after it, or control tokens alone throughout.
Tokens of levels start at random or from the trained token for none.

Control gap: the mean attribute of the prediction under the highest level less that under the
lowest, in standard deviations, exact over the vocabulary. Likelihood: surprise at the last token
under its own level.

Toy: 40 tokens, an attribute per token, sequences whose last token follows the one before it and,
with a share, the level. With reviews: item sequences, levels are thirds of the popularity of the
last item.

Criterion: the gap of two stages exceeds that of joint training, 95 % interval over seeds without 0,
at a surprise that is at most 0.02 nats higher, in every setting.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from benchmarks.methods.recommender_pools import item_statistics
from data_prep.artifact import read_artifact
from data_prep.schema import INTERACTIONS, ITEMS
from personalize.conditioning.control_tokens import ControlTokens, levels_of, quantile_edges
from personalize.evaluation.intervals import bootstrap_interval
from personalize.training_stages import Stage, matching, stage_at
from recsys.histories import Histories

SEEDS = (0, 1, 2, 3)
LEVELS, WIDTH = 3, 32
SCHEDULES = ("joint", "two-stage", "control only")


@dataclass(frozen=True)
class Sequences:
    """Rows of tokens, 0 is padding in front; the last one is predicted.

    Attributes:
        tokens: What is read.
        last: What follows.
        levels: Level of what follows.
        attribute: Of every token, standardised.
    """

    tokens: Tensor
    last: Tensor
    levels: Tensor
    attribute: Tensor

    def rows(self, numbers: Tensor) -> "Sequences":
        """Some rows."""
        return Sequences(
            self.tokens[numbers], self.last[numbers], self.levels[numbers], self.attribute
        )


class Predictor(nn.Module):
    """One transformer layer over control token and sequence; the last place predicts."""

    def __init__(self, vocabulary: int, length: int) -> None:
        super().__init__()
        self.control = ControlTokens(LEVELS, WIDTH)
        self.embedding = nn.Embedding(vocabulary + 1, WIDTH)
        self.places = nn.Parameter(torch.randn(length + 1, WIDTH) * 0.02)
        self.layer = nn.TransformerEncoderLayer(
            WIDTH, 2, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(WIDTH)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, tokens: Tensor, levels: Tensor, *, told: bool) -> Tensor:
        """Logits of the token that follows."""
        mask = torch.full_like(levels, told, dtype=torch.bool)
        read = torch.cat([self.control(levels, mask), self.embedding(tokens)], 1) + self.places
        padded = torch.cat([torch.zeros_like(mask)[:, None], tokens == 0], 1)
        state = self.norm(self.layer(read, src_key_padding_mask=padded)[:, -1])
        return state @ self.embedding.weight[1:].T + self.bias


def main() -> None:
    """Measure, print and, with `--json`, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", type=Path, help="an artifact of `data-prep reviews`")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--steps", type=int, nargs="+", default=[60, 240])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        "seeds": options.seeds, "criterion": (__doc__ or "").split("Criterion: ")[1].strip(),
    }  # fmt: skip
    sources = {"toy": toy}
    if options.tables:
        sources["reviews"] = lambda seed: reviews(options.tables)
    results = []
    for name, source in sources.items():
        rows = [compared(*source(seed), seed=seed, lengths=options.steps) for seed in options.seeds]
        for setting in rows[0]:
            results.append(summary([row[setting] for row in rows]))
            found[f"{name}, {setting}"] = results[-1]
            print(f"{name}, {setting}: {json.dumps(results[-1])}", flush=True)
    found["shown"] = all(
        row["difference"]["low"] > 0 and row["surprise_difference"]["mean"] <= 0.02
        for row in results
    )
    if options.json:
        print(json.dumps(found))


def compared(
    training: Sequences, test: Sequences, *, seed: int, lengths: Sequence[int]
) -> dict[str, dict[str, dict[str, float]]]:
    """Gap and surprise of every schedule, from one model that knows no level."""
    torch.manual_seed(seed)
    model = Predictor(len(training.attribute), training.tokens.shape[1])
    train(model, training, steps=300, seed=seed, told=False, stages=())
    before = measured(model, test, told=False)
    random = {name: value.clone() for name, value in model.state_dict().items()}
    none = random["control.table"][-1:]
    noise = 0.1 * none.std() * torch.randn(random["control.table"].shape)
    starts = {"random": random, "none": random | {"control.table": none + noise}}
    result = {}
    for steps in lengths:
        stages = {
            "joint": (), "two-stage": (Stage(["control.*"], steps // 2),),
            "control only": (Stage(["control.*"], steps),),
        }  # fmt: skip
        for start, state in starts.items():
            found = {"without levels": before}
            for name in SCHEDULES:
                model.load_state_dict(state)
                train(model, training, steps=steps, seed=seed, told=True, stages=stages[name])
                found[name] = measured(model, test, told=True)
            result[f"{steps} steps, tokens start from {start}"] = found
    return result


def train(
    model: Predictor, data: Sequences, *, steps: int, seed: int, told: bool,
    stages: tuple[Stage, ...],
) -> None:  # fmt: skip
    """Likelihood of what follows, the stage by the number of the step."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    parameters = dict(model.named_parameters())
    for step in range(steps):
        number = stage_at(stages, step)
        patterns = stages[number].parameters if number < len(stages) else ("*",)
        chosen = matching(parameters, patterns)
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in chosen)
        batch = data.rows(torch.randint(len(data.last), (64,), generator=generator))
        loss = functional.cross_entropy(model(batch.tokens, batch.levels, told=told), batch.last)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.requires_grad_(True)


@torch.no_grad()
def measured(model: Predictor, test: Sequences, *, told: bool) -> dict[str, float]:
    """Control gap in standard deviations of the attribute, and surprise in nats."""
    means = []
    for level in (0, LEVELS - 1):
        levels = torch.full_like(test.levels, level)
        shares = model(test.tokens, levels, told=told).softmax(-1)
        means.append(float((shares @ test.attribute).mean()))
    logits = model(test.tokens, test.levels, told=told)
    return {
        "gap": means[1] - means[0],
        "surprise": float(functional.cross_entropy(logits, test.last)),
    }


def summary(rows: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Means over the seeds, and two stages less joint with an interval over seeds."""
    result: dict[str, Any] = {
        name: {
            key: round(float(np.mean([row[name][key] for row in rows])), 4) for key in rows[0][name]
        }
        for name in rows[0]
    }
    for key, title in (("gap", "difference"), ("surprise", "surprise_difference")):
        values = np.array([row["two-stage"][key] - row["joint"][key] for row in rows])
        interval = bootstrap_interval(values, resamples=2000)
        result[title] = {
            "mean": round(interval.mean, 4), "low": round(interval.low, 4),
            "high": round(interval.high, 4), "seeds": [round(float(v), 4) for v in values],
        }  # fmt: skip
    return result


def toy(seed: int) -> tuple[Sequences, Sequences]:
    """Markov sequences whose last token takes the level into account in half of the rows."""
    generator = torch.Generator().manual_seed(seed)
    vocabulary, rows, length = 40, 4500, 6
    attribute = torch.randn(vocabulary, generator=generator)
    attribute = (attribute - attribute.mean()) / attribute.std()
    follow = 1.5 * torch.randn(vocabulary, vocabulary, generator=generator)
    edges = quantile_edges(attribute, LEVELS)
    tokens = torch.randint(vocabulary, (rows, length), generator=generator)
    for place in range(1, length):
        shares = follow[tokens[:, place - 1]].softmax(-1)
        tokens[:, place] = torch.multinomial(shares, 1, generator=generator)[:, 0]
    last = torch.multinomial(follow[tokens[:, -1]].softmax(-1), 1, generator=generator)[:, 0]
    levels, _ = levels_of(attribute[last], edges)
    noise = torch.randint(LEVELS, (rows,), generator=generator)
    blind = torch.rand(rows, generator=generator) < 0.5
    data = Sequences(tokens + 1, last, torch.where(blind, noise, levels), attribute)
    numbers = torch.arange(rows)
    return data.rows(numbers[:3500]), data.rows(numbers[3500:])


def reviews(tables: Path) -> tuple[Sequences, Sequences]:
    """The last eight items before every training and every test item of an artifact."""
    source = read_artifact(tables, kind="reviews")
    items = source.table(ITEMS).height
    histories = Histories.from_interactions(source.table(INTERACTIONS))
    popularity, _ = item_statistics(tables, items)
    attribute = (popularity - popularity.mean()) / popularity.std()
    parts = []
    for split in ("train", "test"):
        rows = histories.prefixes((split,), maximum_history=8)
        tokens = torch.zeros(len(rows), 8, dtype=torch.long)
        for row, (start, length) in enumerate(zip(rows.starts, rows.lengths, strict=True)):
            known = torch.from_numpy(histories.item_ids[start : start + length])
            tokens[row, 8 - length :] = known + 1
        last = torch.from_numpy(histories.item_ids[rows.starts + rows.lengths])
        parts.append((tokens, last))
    edges = quantile_edges(attribute[parts[0][1]], LEVELS)
    training, test = (
        Sequences(tokens, last, levels_of(attribute[last], edges)[0], attribute)
        for tokens, last in parts
    )
    return training, test


if __name__ == "__main__":
    main()
