"""Questions answered: those alike together, and what every preference did to every item."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from personalize.api.messages import ItemFound, ItemsFound, Reason
from recsys.served_items import ServedItems
from recsys.served_questions import AskedItems, RowMaker, Rows
from recsys.served_search import Search, scored


@dataclass(frozen=True)
class Answering:
    """How questions of one mode are answered.

    Attributes:
        model: Name of the model.
        search: Finds and scores items.
        rows: Makes rows of questions.
        items: The items.
        candidates: Items that are compared at least; more where more are asked for.
    """

    model: str
    search: Search
    rows: RowMaker
    items: ServedItems
    candidates: int

    def answers(self, questions: Sequence[AskedItems]) -> list[ItemsFound]:
        """An answer to every question, in their order; questions that share filters go together."""
        groups: dict[tuple[int, bool, int], list[int]] = {}
        for place, question in enumerate(questions):
            name = (id(question.allowed), question.without_seen, self.count(question))
            groups.setdefault(name, []).append(place)
        found: dict[int, ItemsFound] = {}
        for (_, _, count), places in groups.items():
            group = [questions[place] for place in places]
            found.update(zip(places, self._group(group, count), strict=True))
        return [found[place] for place in range(len(questions))]

    def count(self, question: AskedItems) -> int:
        """Items to search for: a power of two, so that many questions share it.

        It depends on the question alone, so its answer does too. Seen items that the search does
        not leave out itself are searched for as well and taken out afterwards.
        """
        wanted = max(question.query.k, self.candidates)
        if question.without_seen:
            left_out = self.rows.maximum_history if self.search.leaves_out_seen else 0
            wanted += max(0, len(question.history) - left_out)
        return min(1 << (wanted - 1).bit_length(), max(1, len(self.items)))

    def _group(self, questions: Sequence[AskedItems], count: int) -> list[ItemsFound]:
        rows = self.rows.rows(questions)
        searched = np.unique(np.concatenate([rows.asked, rows.without]))
        batch = rows.batch.rows(torch.from_numpy(searched))
        found = self.search.candidates(
            batch,
            count=count,
            allowed=questions[0].allowed,
            without_seen=questions[0].without_seen,
        )
        pools = [
            _Pool.of(
                found[np.searchsorted(searched, rows.asked[place])],
                found[np.searchsorted(searched, rows.without[place])],
                question.history if question.without_seen else np.zeros(0, np.int64),
            )
            for place, question in enumerate(questions)
        ]
        width = max(1, *(len(pool.item_ids) for pool in pools))
        item_ids = np.full((len(questions), width), -1, np.int64)
        for place, pool in enumerate(pools):
            item_ids[place, : len(pool.item_ids)] = pool.item_ids
        scores = scored(self.search, rows.batch, item_ids[rows.owner])
        compared = Compared.of(rows, 0, scores)
        return [
            self._answer(question, pool, replace(compared, question=place))
            for place, (question, pool) in enumerate(zip(questions, pools, strict=True))
        ]

    def _answer(self, question: AskedItems, pool: "_Pool", compared: "Compared") -> ItemsFound:
        order = compared.best(pool.asked, question.query.k)
        return self.message(question, pool.item_ids, compared, order)

    def message(
        self,
        question: AskedItems,
        item_ids: Int[np.ndarray, " candidate"],
        compared: "Compared",
        order: Int[np.ndarray, " rank"],
    ) -> ItemsFound:
        """The answer to a question.

        Args:
            question: What was asked.
            item_ids: The items that were compared.
            compared: Their scores.
            order: Places of those that were found, best first.
        """
        explained = compared.reasons(question, order) if question.query.explain else None
        changes, ranks = compared.without(order)
        items = [
            ItemFound(
                item=self.items.item(int(item_ids[place])),
                score=score,
                score_change=change,
                rank_without_preferences=rank,
                reasons=[] if explained is None else explained[number],
            )
            for number, (place, score, change, rank) in enumerate(
                zip(order.tolist(), compared.scores_as_asked(order), changes, ranks, strict=True)
            )
        ]
        return ItemsFound(
            model=self.model,
            mode=question.query.mode,
            history=[self.items.facts[number].key for number in question.history.tolist()],
            preferences=list(question.wishes),
            compared=len(item_ids),
            items=items,
        )


@dataclass(frozen=True)
class _Pool:
    """Items that are compared, by number: those found as asked, and those found without wishes.

    Attributes:
        item_ids: All of them, ascending, so that equal scores rank by number.
        asked: Which were found as asked.
    """

    item_ids: Int[np.ndarray, " candidate"]
    asked: Bool[np.ndarray, " candidate"]

    @classmethod
    def of(
        cls,
        asked: Int[np.ndarray, " rank"],
        without: Int[np.ndarray, " rank"],
        seen: Int[np.ndarray, " step"],
    ) -> "_Pool":
        kept = [found[(found >= 0) & ~np.isin(found, seen)] for found in (asked, without)]
        item_ids = np.unique(np.concatenate(kept))
        return cls(item_ids, np.isin(item_ids, kept[0]))


@dataclass(frozen=True)
class Compared:
    """Scores of one question's pool under each of its rows.

    Attributes:
        rows: The rows of the group.
        question: Number of the question in the group.
        scores: Score of every candidate under every row; `-inf` where there is none.
        ranks: Places by score, 1 is first.
    """

    rows: Rows
    question: int
    scores: Float[np.ndarray, "row candidate"]
    ranks: Int[np.ndarray, "row candidate"]

    @classmethod
    def of(
        cls, rows: Rows, question: int, scores: Float[np.ndarray, "row candidate"]
    ) -> "Compared":
        """Scores with their ranks."""
        return cls(rows, question, scores, _ranks(scores))

    def best(self, asked: Bool[np.ndarray, " _"], count: int) -> Int[np.ndarray, " rank"]:
        """Places of the best candidates among those found as asked."""
        row = self.rows.asked[self.question]
        places = np.flatnonzero(asked)
        return places[np.argsort(self.ranks[row, places], kind="stable")][:count]

    def scores_as_asked(self, order: Int[np.ndarray, " rank"]) -> list[float]:
        """Scores of candidates as asked."""
        return self.scores[self.rows.asked[self.question], order].tolist()

    def without(self, order: Int[np.ndarray, " rank"]) -> tuple[list[float], list[int]]:
        """What all wishes together changed in the scores, and the ranks without them."""
        return self._against(int(self.rows.without[self.question]), order)

    def reasons(self, question: AskedItems, order: Int[np.ndarray, " rank"]) -> list[list[Reason]]:
        """For every candidate what each wish that weighs anything did, the largest effect first."""
        left_out = self.rows.left_out[self.question]
        found: list[list[Reason]] = [[] for _ in order]
        for wish, row in zip(question.weighing, left_out, strict=False):
            for number, (change, rank) in enumerate(zip(*self._against(row, order), strict=True)):
                found[number].append(
                    Reason(preference=wish, score_change=change, rank_without=rank)
                )
        for reasons in found:
            reasons.sort(key=lambda reason: (-abs(reason.score_change), reason.preference))
        return found

    def _against(self, row: int, order: Int[np.ndarray, " rank"]) -> tuple[list[float], list[int]]:
        asked = self.scores[self.rows.asked[self.question], order]
        other = self.scores[row, order]
        return (asked - other).tolist(), self.ranks[row, order].tolist()


def _ranks(scores: Float[np.ndarray, "row candidate"]) -> Int[np.ndarray, "row candidate"]:
    """Place of every candidate in its row, 1 is first; equal scores in the order given."""
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(1, scores.shape[1] + 1)[None, :], axis=1)
    return ranks
