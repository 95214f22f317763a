"""Fine and coarse steering: a stranger's history, and one sentence that asks for something else.

Two targets `s` and `t`, similar within a band, swap histories: asked with the history of the
person who met `t` and a preference near `s`, a recommender should return `s`, and the other way
round. Fine steering takes `t` from a band of high similarity, coarse steering from a band of low
similarity. Bands rather than the nearest or the farthest item: the nearest is often the same
product under another number, and the farthest is the same few odd items for everybody.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from recsys.evidence import NEVER, EvidencePool, Swap, nearest_fair_texts
from recsys.questions import Axis, Choice, ItemTexts, Questions, Targets, question_rows

_CHUNK = 512
_SAMPLED_PAIRS = 200_000
_OWNERS_TRIED = 8
_RULE = (
    "Two targets of a similarity within the band swap histories; each is asked for with the "
    "nearest liked preference of the pool that is nearer to it than to its partner, was stated in "
    "training strictly before both targets, by neither person, from evidence about neither item."
)


@dataclass(frozen=True)
class Band:
    """A band of similarity, as percentiles of the cosines of random pairs of targets."""

    axis: str
    lowest_percentile: float
    highest_percentile: float


FINE = Band("fine_steering", 99.0, 99.95)
COARSE = Band("coarse_steering", 5.0, 25.0)


@dataclass(frozen=True)
class SteeringOptions:
    """Limits shared by the axes.

    Attributes:
        split: Split that is asked about.
        cap: How often one item may be a target of one axis.
        limit: Most pairs of one axis.
        seed: Seed of every choice.
    """

    split: str
    cap: int = 3
    limit: int = 5000
    seed: int = 0


@dataclass(frozen=True)
class _Pairs:
    """Numbers of the targets of each pair, and why other candidates gave none."""

    first: Int[np.ndarray, " pair"]
    second: Int[np.ndarray, " pair"]
    dropped: Mapping[str, int]


def steering_axis(
    targets: Targets,
    items: ItemTexts,
    pool: EvidencePool,
    pool_vectors: Float[np.ndarray, "text width"],
    band: Band,
    options: SteeringOptions,
) -> Axis:
    """One steering axis: two questions per pair of targets, with and without the preference.

    Args:
        targets: Interactions of the split.
        items: How items are known by text.
        pool: Texts that may steer, with the evidence behind them.
        pool_vectors: Unit vectors of the pool's texts, in its order.
        band: Which pairs of targets count.
        options: Limits and seed.
    """
    generator = np.random.default_rng([options.seed, int(band.lowest_percentile * 100)])
    candidates = len(np.unique(targets.item_ids))
    lowest, highest = _cosines_of_band(targets, items, band, generator)
    pairs = _pairs(targets, items, (lowest, highest), options, generator)
    dropped = Counter(pairs.dropped)
    texts, found = _texts_for_both(targets, items, pool, pool_vectors, pairs)
    both = found.all(axis=1)
    dropped["no fair preference nearer to it than to its partner"] = int((~both).sum())
    kept = np.flatnonzero(both)
    dropped["beyond the limit of pairs"] = max(0, len(kept) - options.limit)
    kept = kept[: options.limit]
    questions = _questions(band.axis, targets, pairs.first[kept], pairs.second[kept])
    stated = Choice([[int(text)] for text in texts[kept].reshape(-1)], [[False]] * (2 * len(kept)))
    frames = [
        question_rows(questions, name, choice, options.split)
        for name, choice in (("none", Choice.none(2 * len(kept))), ("stated", stated))
    ]
    return Axis(
        name=band.axis,
        unit="distinct target items, each the first of a pair",
        candidates=candidates,
        kept=len(kept),
        dropped={reason: count for reason, count in sorted(dropped.items()) if count},
        rule=_RULE,
        thresholds={
            "lowest_percentile": band.lowest_percentile,
            "highest_percentile": band.highest_percentile,
            "lowest_cosine": round(float(lowest), 6),
            "highest_cosine": round(float(highest), 6),
            "cap": options.cap,
            "limit": options.limit,
        },
        frame=frames[0].vstack(frames[1]),
    )


def _cosines_of_band(
    targets: Targets, items: ItemTexts, band: Band, generator: np.random.Generator
) -> tuple[float, float]:
    """The band's ends as cosines, from random pairs of distinct targets that have a text."""
    known = np.unique(targets.item_ids)
    known = known[items.mask[known]]
    if len(known) < 2:
        return 0.0, 0.0
    first = generator.integers(len(known), size=_SAMPLED_PAIRS)
    second = (first + generator.integers(1, len(known), size=_SAMPLED_PAIRS)) % len(known)
    vectors = items.vectors[known]
    cosines = np.concatenate(
        [
            np.einsum("pw,pw->p", vectors[first[b : b + 8192]], vectors[second[b : b + 8192]])
            for b in range(0, _SAMPLED_PAIRS, 8192)
        ]
    )
    low, high = np.percentile(cosines, [band.lowest_percentile, band.highest_percentile])
    return float(low), float(high)


def _pairs(
    targets: Targets,
    items: ItemTexts,
    cosines: tuple[float, float],
    options: SteeringOptions,
    generator: np.random.Generator,
) -> _Pairs:
    """Pairs of targets within the band; every distinct target item is tried once as the first."""
    owners: dict[int, list[int]] = {}
    for number in generator.permutation(len(targets)):
        owners.setdefault(int(targets.item_ids[number]), []).append(int(number))
    distinct = np.array(sorted(owners), dtype=np.int64)
    known = distinct[items.mask[distinct]]
    dropped: Counter[str] = Counter({"the item has no text": len(distinct) - len(known)})
    used = np.zeros(len(items.mask), np.int64)
    found: list[tuple[int, int]] = []
    for item, near in _partners(known, items, cosines, generator):
        if used[item] >= options.cap:
            dropped["the target is used up"] += 1
            continue
        partners = near[used[near] < options.cap]
        if not len(partners):
            dropped["no other target in the band"] += 1
            continue
        pair = _fair_owners(targets, owners, item, generator.permutation(partners)[:_OWNERS_TRIED])
        if pair is None:
            dropped["the target stands in the swapped history"] += 1
            continue
        used[item] += 1
        used[targets.item_ids[pair[1]]] += 1
        found.append(pair)
    first, second = np.array(found, dtype=np.int64).reshape(-1, 2).T
    return _Pairs(first, second, dropped)


def _partners(
    known: Int[np.ndarray, " known"],
    items: ItemTexts,
    cosines: tuple[float, float],
    generator: np.random.Generator,
) -> Iterator[tuple[int, Int[np.ndarray, " partner"]]]:
    """Every item in random order, with the items in the band that are no duplicate of it."""
    low, high = cosines
    order = generator.permutation(known)
    titles = np.array([items.titles[item] for item in known], dtype=object)
    for begin in range(0, len(order), _CHUNK):
        chunk = order[begin : begin + _CHUNK]
        similar = items.vectors[chunk] @ items.vectors[known].T
        for item, row in zip(chunk, similar, strict=True):
            near = (row >= low) & (row <= high) & (known != item)
            near &= items.text_ids[known] != items.text_ids[item]
            if items.titles[item]:
                near &= titles != items.titles[item]
            yield int(item), known[near]


def _fair_owners(
    targets: Targets,
    owners: Mapping[int, list[int]],
    item: int,
    partners: Int[np.ndarray, " partner"],
) -> tuple[int, int] | None:
    """A target of the item and one of a partner, of two people who have not met the other's."""
    for partner in partners:
        for first in owners[item][:_OWNERS_TRIED]:
            for second in owners[int(partner)][:_OWNERS_TRIED]:
                if (
                    targets.user_ids[first] != targets.user_ids[second]
                    and item not in targets.history(second)
                    and partner not in targets.history(first)
                ):
                    return first, second
    return None


def _texts_for_both(
    targets: Targets,
    items: ItemTexts,
    pool: EvidencePool,
    pool_vectors: Float[np.ndarray, "text width"],
    pairs: _Pairs,
) -> tuple[Int[np.ndarray, "pair two"], Bool[np.ndarray, "pair two"]]:
    """The sentence that asks for the first target of each pair, and the one for the second."""
    a, b = pairs.first, pairs.second
    timed = targets.timed[a] & targets.timed[b]
    earlier = np.where(timed, np.minimum(targets.times_s[a], targets.times_s[b]), NEVER)
    texts, found = [], []
    for here, there in ((a, b), (b, a)):
        swap = Swap(
            targets.item_ids[here],
            targets.item_ids[there],
            targets.user_ids[here],
            targets.user_ids[there],
            earlier,
        )
        text, there_is = nearest_fair_texts(pool, swap, items.vectors, pool_vectors)
        texts.append(text)
        found.append(there_is)
    return np.stack(texts, axis=1), np.stack(found, axis=1)


def _questions(
    axis: str,
    targets: Targets,
    first: Int[np.ndarray, " pair"],
    second: Int[np.ndarray, " pair"],
) -> Questions:
    """Two questions per pair: target one with history two, then target two with history one."""
    asked = np.stack([first, second], axis=1).reshape(-1)
    lent = np.stack([second, first], axis=1).reshape(-1)
    return Questions(
        axis=axis,
        user_ids=targets.user_ids[lent],
        histories=[targets.history(number).tolist() for number in lent.tolist()],
        target_item_ids=targets.item_ids[asked],
        wanted=np.ones(len(asked), np.bool_),
    )
