"""Sentiment following: the same item, once wanted for what people praise, once avoided.

For an item that other people praised and criticised in training, the wanted question carries a
`like` preference about an aspect they praised, the avoided question an `avoid` preference about an
aspect they criticised: the same aspect where opinions differ on it, else the two aspects most
people speak of. Both sentences are the extractor's own, chosen by the polarity of the record, and
no words are exchanged. A recommender that follows what is said returns the item for the first
question and leaves it out for the second. Asked without a history, as in the reference, and with
the history of a person whose next item it was.
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import polars as pl
from jaxtyping import Int

from recsys.questions import Axis, Choice, Questions, Targets, question_rows
from recsys.steering_axes import SteeringOptions

WITHOUT_HISTORY = "sentiment_following"
WITH_HISTORY = "sentiment_following_with_history"
_RULE = (
    "An item is wanted by a like preference about an aspect other people praised it for, and "
    "avoided by an avoid preference about an aspect other people criticised it for, all said in "
    "training strictly before the target; the same aspect where opinions differ on it."
)


def sentiment_axes(
    targets: Targets, praise: pl.DataFrame, complaint: pl.DataFrame, options: SteeringOptions
) -> tuple[Axis, Axis]:
    """Sentiment following without and with history: two questions per pair.

    Without history the recommender cannot be asked under the condition `none`: nothing is left.

    Args:
        targets: Interactions of the split.
        praise: What people liked (`training_evidence`).
        complaint: What people want to avoid (`training_evidence`).
        options: Limits and seed.
    """
    generator = np.random.default_rng([options.seed, 77])
    opinions = _opinions(targets, praise, complaint)
    dropped: Counter[str] = Counter()
    used: Counter[int] = Counter()
    kept: list[int] = []
    for number in generator.permutation(len(targets)).tolist():
        item = int(targets.item_ids[number])
        if number not in opinions:
            dropped["nobody else both praised and criticised the item before"] += 1
        elif used[item] >= options.cap:
            dropped["the target is used up"] += 1
        elif len(kept) >= options.limit:
            dropped["beyond the limit of pairs"] += 1
        else:
            used[item] += 1
            kept.append(number)
    chosen = np.array(sorted(kept), dtype=np.int64)
    texts = [opinions[number][:2] for number in chosen.tolist()]
    same = sum(opinions[number][2] for number in chosen.tolist())
    stated = Choice([[text] for pair in texts for text in pair], [[False], [True]] * len(chosen))

    def axis(name: str, *, history: bool) -> Axis:
        questions = _questions(name, targets, chosen, history=history)
        frame = question_rows(questions, "stated", stated, options.split)
        if history:
            none = Choice.none(2 * len(chosen))
            frame = question_rows(questions, "none", none, options.split).vstack(frame)
        return Axis(
            name=name,
            unit="targets of the split",
            candidates=len(targets),
            kept=len(chosen),
            dropped=dict(sorted(dropped.items())),
            rule=_RULE,
            thresholds={"cap": options.cap, "limit": options.limit},
            frame=frame,
            extra={"pairs_about_the_same_aspect": same},
        )

    return axis(WITHOUT_HISTORY, history=False), axis(WITH_HISTORY, history=True)


def _questions(
    name: str, targets: Targets, chosen: Int[np.ndarray, " pair"], *, history: bool
) -> Questions:
    """The wanted and the avoided question of every pair, one after the other."""
    asked = np.repeat(chosen, 2)
    return Questions(
        axis=name,
        user_ids=targets.user_ids[asked],
        histories=[targets.history(n).tolist() if history else [] for n in asked.tolist()],
        target_item_ids=targets.item_ids[asked],
        wanted=np.tile([True, False], len(chosen)),
        pair_ids=np.repeat(np.arange(len(chosen)), 2),
    )


def _opinions(
    targets: Targets, praise: pl.DataFrame, complaint: pl.DataFrame
) -> Mapping[int, tuple[int, int, bool]]:
    """For each target: the text that wants it, the text that avoids it, whether on one aspect."""
    asked = pl.DataFrame(
        {
            "number": np.arange(len(targets)),
            "item_id": pl.Series(targets.item_ids, dtype=pl.Int32),
            "user_id": targets.user_ids,
            "time_s": np.where(targets.timed, targets.times_s, np.iinfo(np.int64).max),
        }
    )
    liked, avoided = _said_of(asked, praise), _said_of(asked, complaint)
    both = (
        liked.join(avoided, on=["number", "aspect"], suffix="_avoid")
        .with_columns(
            pl.min_horizontal("people", "people_avoid").alias("people"),
            pl.lit(value=True).alias("same"),
        )
        .select("number", "aspect", "people", "text_id", "text_id_avoid", "same")
    )
    apart = (
        _most_spoken_of(liked)
        .join(_most_spoken_of(avoided), on="number", suffix="_avoid")
        .with_columns(pl.lit(value=False).alias("same"))
        .select("number", "aspect", "people", "text_id", "text_id_avoid", "same")
    )
    best = pl.concat([_most_spoken_of(both), apart]).unique(
        "number", keep="first", maintain_order=True
    )
    rows = best.select("number", "text_id", "text_id_avoid", "same").iter_rows()
    return {number: (wanted, avoided, same) for number, wanted, avoided, same in rows}


def _said_of(asked: pl.DataFrame, said: pl.DataFrame) -> pl.DataFrame:
    """For each target and aspect: how many other people said so before, in which words.

    Where an aspect is put in several ways, the words most people used stand for it.
    """
    spoken = (
        asked.lazy()
        .join(said.lazy(), on="item_id")
        .filter(
            (pl.col("subject_id") != pl.col("user_id")) & (pl.col("timestamp_s") < pl.col("time_s"))
        )
        .group_by("number", "aspect", "text_id")
        .agg(pl.col("subject_id").n_unique().alias("people"))
        .sort("number", "aspect", "people", "text_id", descending=[False, False, True, False])
        .collect()
    )
    return spoken.unique(["number", "aspect"], keep="first", maintain_order=True)


def _most_spoken_of(spoken: pl.DataFrame) -> pl.DataFrame:
    """Of each target the aspect most people speak of; the alphabet breaks ties."""
    ordered = spoken.sort("number", "people", "aspect", descending=[False, True, False])
    return ordered.unique("number", keep="first", maintain_order=True)
