"""Latent preferences from comparisons: two hidden opposite users, and people with histories.

Toy: profiles of eight speeds whose mean level, waviness and trend differ. A decoder reads a profile
step by step and the point of the whole profile (`SphereEncoder`), trained on 1,500 unlabelled
profiles; nobody says what the points mean. Two users want more and less of the mean speed; each
compares 20 pairs. With everything frozen a latent is found for each. Utility is the standardised
mean speed (its negative for the other user) of 200 generated profiles, under the user's latent,
under the one latent that is found from all comparisons, and under random latents. Hindsight: the
mean speed of a profile generated from a profile's own point against that of its origin, in
deviations, beside a random point's.

With reviews: points of lists of three items, read and decoded by their texts (32 main components)
and, in the decoder, their popularity; a person prefers their earlier lists to other people's. Asked
of their latest list: is it nearer than another person's list, and how probable is it under the
person's latent, the common one and a random one?

Criterion: both users' utility under their own latent exceeds that under the common and under random
latents, 95 % interval over seeds without 0, and hindsight is nearer than a random point in every
seed.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from benchmarks.methods.recommender_pools import item_statistics
from data_prep.artifact import read_artifact
from data_prep.schema import INTERACTIONS
from personalize.conditioning.latent_preference import (
    SphereEncoder,
    found_latents,
    mean_difference,
)
from personalize.evaluation.intervals import bootstrap_interval, paired_comparison
from recsys.histories import Histories
from recsys.stored_catalogue import load_catalogue

SEEDS = (0, 1, 2, 3, 4)
STEPS, LATENT, PAIRS, LIST = 8, 8, 20, 3


class ProfileDecoder(nn.Module):
    """The next speed given the one before, its place and the latent: a normal distribution."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 + STEPS + LATENT, 64), nn.GELU(), nn.Linear(64, 2))

    def forward(self, before: Tensor, place: int, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the deviation of the next speed; `before` holds the last two."""
        where = torch.zeros(len(before), STEPS)
        where[:, place] = 1
        out = self.layers(torch.cat([before, where, latent], 1))
        return out[:, 0], out[:, 1].clamp(-3, 2)

    def surprise(self, profiles: Tensor, latent: Tensor) -> Tensor:
        """Minus the log-density of every profile, a constant aside."""
        padded = torch.cat([torch.zeros(len(profiles), 2), profiles], 1)
        total = torch.zeros(len(profiles))
        for place in range(STEPS):
            mean, deviation = self(padded[:, place : place + 2], place, latent)
            total = total + deviation + ((profiles[:, place] - mean) / deviation.exp()) ** 2 / 2
        return total

    @torch.no_grad()
    def generate(self, latent: Tensor, seed: int) -> Tensor:
        """One profile per latent."""
        generator = torch.Generator().manual_seed(seed)
        made = torch.zeros(len(latent), 2)
        for place in range(STEPS):
            mean, deviation = self(made[:, -2:], place, latent)
            noise = torch.randn(len(latent), generator=generator)
            made = torch.cat([made, (mean + deviation.exp() * noise)[:, None]], 1)
        return made[:, 2:]


class ListDecoder(nn.Module):
    """Probabilities of items given a latent: popularity, and a match with the items' texts."""

    def __init__(self, texts: Tensor, popularity: Tensor) -> None:
        super().__init__()
        self.layers = nn.Linear(LATENT, texts.shape[1])
        self.texts, self.popularity = texts, popularity

    def surprise(self, lists: Tensor, latent: Tensor) -> Tensor:
        """Minus the mean log-probability of a list's items."""
        logits = self.layers(latent) @ self.texts.T / self.texts.shape[1] ** 0.5 + self.popularity
        return -logits.log_softmax(-1).gather(1, lists).mean(1)


def main() -> None:
    """Measure, print and, with `--json`, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", type=Path, help="an artifact of `data-prep reviews`")
    parser.add_argument("--vectors", type=Path, help="an artifact of `personalize encode`")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--no-toy", action="store_true", help="reviews alone")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        "seeds": options.seeds, "criterion": (__doc__ or "").split("Criterion: ")[1].strip(),
    }  # fmt: skip
    if not options.no_toy:
        found |= hidden_users(options.seeds)
    if options.tables and options.vectors:
        found["reviews"] = [
            people(options.tables, options.vectors, seed) for seed in options.seeds[:3]
        ]
        for row in found["reviews"]:
            print(f"reviews {row}", flush=True)
    if options.json:
        print(json.dumps(found))


def hidden_users(seeds: Sequence[int]) -> dict[str, Any]:
    """The toy over several seeds, and whether it shows the criterion."""
    rows = []
    for seed in seeds:
        rows.append(toy(seed))
        print(f"toy {rows[-1]}", flush=True)
    found: dict[str, Any] = {"toy": rows}
    lows = []
    for user in ("fast", "slow"):
        for other in ("common", "random", "mean difference"):
            gaps = np.array([row[user]["own"] - row[user][other] for row in rows])
            interval = bootstrap_interval(gaps, resamples=2000)
            if other != "mean difference":  # a baseline of ours, not of the criterion
                lows.append(interval.low)
            found[f"{user}: own less {other}"] = [
                round(value, 3) for value in (interval.mean, interval.low, interval.high)
            ]
            print(f"{user}: own less {other}", found[f"{user}: own less {other}"])
    near = all(row["hindsight"] < row["hindsight_random"] for row in rows)
    return found | {"shown": min(lows) > 0 and near}


def profiles(count: int, generator: torch.Generator) -> Tensor:
    """Speeds of eight steps: level, wave and trend drawn apart, and a little noise."""
    level, wave, trend = torch.randn(3, count, 1, generator=generator).unbind(0)
    place = torch.arange(STEPS) / (STEPS - 1)
    noise = 0.3 * torch.randn(count, STEPS, generator=generator)
    return level + wave * (9 * place).sin() + trend * (place - 0.5) + noise


def toy(seed: int, *, steps: int = 900) -> dict[str, Any]:
    """Utilities of both users and the hindsight check, for one seed."""
    generator = torch.Generator().manual_seed(seed)
    data = profiles(1500, generator)
    torch.manual_seed(seed)
    encoder, decoder = SphereEncoder(1, latent=LATENT, model=16), ProfileDecoder()
    weights = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(weights, lr=3e-3)
    for _ in range(steps):
        batch = data[torch.randint(len(data), (128,), generator=generator)]
        loss = decoder.surprise(batch, encode(encoder, batch)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    deviation = data.mean(1).std()
    first, second = (profiles(2 * PAIRS, generator).view(2, PAIRS, STEPS) for _ in range(2))
    signs = torch.tensor([1.0, -1.0])
    wins = ((first - second).mean(-1) * signs[:, None] > 0)[..., None]
    better, worse = torch.where(wins, first, second), torch.where(wins, second, first)
    with torch.no_grad():
        points = [
            encode(encoder, part.flatten(0, 1)).view(2, PAIRS, -1) for part in (better, worse)
        ]
    mask = torch.ones(2, PAIRS, dtype=torch.bool)
    own = found_latents(points[0], points[1], mask)
    mean = mean_difference(points[0], points[1], mask)
    wide = [part.reshape(1, 2 * PAIRS, -1) for part in points]
    common = found_latents(wide[0], wide[1], mask.view(1, -1))
    random = functional.normalize(torch.randn(200, LATENT, generator=generator), dim=1)
    result: dict[str, Any] = {"seed": seed}
    for number, user in enumerate(("fast", "slow")):
        result[user] = {
            name: round(float(signs[number] * decoder.generate(z, seed).mean() / deviation), 3)
            for name, z in (
                ("own", own[number].expand(200, -1)), ("common", common.expand(200, -1)),
                ("mean difference", mean[number].expand(200, -1)), ("random", random),
            )
        }  # fmt: skip
    origin = profiles(200, generator)
    with torch.no_grad():
        again = decoder.generate(encode(encoder, origin), seed)
    for name, made in (("hindsight", again), ("hindsight_random", decoder.generate(random, seed))):
        gap = (made.mean(1) - origin.mean(1)).abs().mean() / deviation
        result[name] = round(float(gap), 3)
    return result


def encode(encoder: SphereEncoder, speeds: Tensor) -> Tensor:
    """Points of profiles."""
    return encoder(speeds[..., None], torch.ones(speeds.shape, dtype=torch.bool))


def people(tables: Path, vectors: Path, seed: int) -> dict[str, Any]:
    """Latents of people from their earlier lists, asked of their latest one."""
    source = read_artifact(tables, kind="reviews")
    lists, owner, latest = item_lists(Histories.from_interactions(source.table(INTERACTIONS)))
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    known, decoder = list_points(tables, vectors, lists, (~latest).nonzero()[:, 0], generator)
    users = owner[latest]
    better, worse, mask = own_and_others(known, owner, latest, generator)
    own = found_latents(better, worse, mask)
    common = found_latents(better[mask][None], worse[mask][None], mask[mask][None])
    mine, their = known[latest], known[latest].roll(1, 0)
    near = ((own - mine).norm(dim=1) < (own - their).norm(dim=1)).double().numpy()
    random = functional.normalize(torch.randn(len(users), LATENT, generator=generator), dim=1)
    average = functional.normalize((better * mask[..., None]).sum(1), dim=1)
    tried = {"own": own, "common": common.expand_as(own), "random": random, "mean list": average}
    with torch.no_grad():
        surprise = {
            name: decoder.surprise(lists[latest], latent).double().numpy()
            for name, latent in tried.items()
        }
    nearer = bootstrap_interval(near, resamples=2000)
    less = paired_comparison(surprise["own"], surprise["common"], resamples=2000).difference
    return {
        "seed": seed, "people": len(users), "lists": len(lists),
        "nearer": [round(v, 3) for v in (nearer.mean, nearer.low, nearer.high)],
        "surprise": {name: round(float(values.mean()), 3) for name, values in surprise.items()},
        "own_less_common": [round(v, 3) for v in (less.mean, less.low, less.high)],
    }  # fmt: skip


def list_points(
    tables: Path, vectors: Path, lists: Tensor, earlier: Tensor, generator: torch.Generator
) -> tuple[Tensor, ListDecoder]:
    """Points of all lists and the decoder, learnt from the earlier lists alone."""
    catalogue = load_catalogue(tables, vectors)
    texts = catalogue.text_vectors[catalogue.item_text_ids] * catalogue.item_text_mask[:, None]
    parts, sizes, _ = torch.linalg.svd(texts - texts.mean(0), full_matrices=False)
    embedding = parts[:, :32] * sizes[:32]
    embedding = embedding / embedding.std()
    popularity, _ = item_statistics(tables, catalogue.item_count)
    encoder = SphereEncoder(32, latent=LATENT, model=32, steps=LIST)
    decoder = ListDecoder(embedding, popularity)
    weights = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=3e-3, weight_decay=0.05)
    full = torch.ones(len(lists), LIST, dtype=torch.bool)
    for _ in range(400):
        rows = lists[earlier[torch.randint(len(earlier), (256,), generator=generator)]]
        loss = decoder.surprise(rows, encoder(embedding[rows], full[: len(rows)])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return encoder(embedding[lists], full), decoder


def own_and_others(
    points: Tensor, owner: Tensor, latest: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Everybody's earlier lists, as many of other people's, and which of them are real."""
    users = owner[latest].tolist()
    count = max(int(((owner == user) & ~latest).sum()) for user in users)
    better, worse = torch.zeros(2, len(users), count, LATENT)
    mask = torch.zeros(len(users), count, dtype=torch.bool)
    for row, user in enumerate(users):
        mine = ((owner == user) & ~latest).nonzero()[:, 0]
        others = ((owner != user) & ~latest).nonzero()[:, 0]
        drawn = others[torch.randint(len(others), (len(mine),), generator=generator)]
        better[row, : len(mine)], worse[row, : len(mine)] = points[mine], points[drawn]
        mask[row, : len(mine)] = True
    return better, worse, mask


def item_lists(histories: Histories) -> tuple[Tensor, Tensor, Tensor]:
    """Lists of items met one after another, whose they are, and which is a person's latest.

    Only people with at least two earlier lists; what does not fill a list at the start is left out.
    """
    lists, owner, latest = [], [], []
    for user in np.unique(histories.user_ids):
        met = histories.item_ids[histories.user_ids == user]
        whole = len(met) // LIST
        if whole >= 3:
            lists.append(met[len(met) - whole * LIST :].reshape(whole, LIST))
            owner += [int(user)] * whole
            latest += [False] * (whole - 1) + [True]
    return torch.from_numpy(np.concatenate(lists)), torch.tensor(owner), torch.tensor(latest)


if __name__ == "__main__":
    main()
