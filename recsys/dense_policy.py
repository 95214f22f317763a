"""A recommender that scores the whole catalogue as preference optimisation sees it."""

from typing import Protocol, cast, final, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from personalize.preference_optimization.policy import Drawn, Policy
from recsys.batch import HistoryBatch
from recsys.dense import DenseRetriever
from recsys.recommender import Recommender


@runtime_checkable
class ScoresItems(Protocol):
    """A recommender with a score for every item, by which it ranks; it must be differentiable."""

    def item_scores(self, batch: HistoryBatch) -> Float[Tensor, "batch item"]:
        """The score of every item after each row's last real step."""
        ...


@final
class DensePolicy(Policy[HistoryBatch]):
    """A softmax over all items of the scores a recommender ranks by, in one step.

    Of a `CausalRetriever` that is its dense head with the prior, not its codes.

    Attributes:
        recommender: Its weights are the policy's.
    """

    steps = 1

    def __init__(self, recommender: Recommender) -> None:
        """Take a recommender.

        Raises:
            TypeError: If it does not score all items.
        """
        super().__init__()
        if not isinstance(recommender, ScoresItems):
            raise TypeError(f"{type(recommender).__name__} has no score for every item.")
        self.recommender: Recommender = recommender

    def log_prob(
        self, context: HistoryBatch, responses: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle 1"]:
        """See `Policy`."""
        return self._rows(context).log_softmax(-1).gather(1, responses)[..., None]

    @torch.no_grad()
    def sample(self, context: HistoryBatch, count: int, *, seed: int, beam: bool = False) -> Drawn:
        """See `Policy`.

        Raises:
            ValueError: If a beam is asked for more items than there are.
        """
        rows = self._rows(context).log_softmax(-1)
        if beam and count > rows.shape[1]:
            raise ValueError(f"a beam of {count} is more than {rows.shape[1]} items.")
        if beam:
            found = rows.topk(count).indices
        else:
            generator = torch.Generator().manual_seed(seed)
            uniform = torch.rand(count, rows.shape[1], generator=generator).clamp(1e-12, 1 - 1e-7)
            found = (rows[:, None] - (-uniform.log()).log().to(rows)).argmax(-1)
        return Drawn(found, rows.gather(1, found)[..., None], sampled=not beam)

    def logits(
        self, context: HistoryBatch, responses: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle 1 item"]:
        """See `Policy`."""
        return self._rows(context)[:, None, None].expand(-1, responses.shape[1], -1, -1)

    def choices(self, responses: Int[Tensor, "batch particle"]) -> Int[Tensor, "batch particle 1"]:
        """See `Policy`: the items themselves."""
        return responses[..., None]

    def represented_width(self) -> int:
        """See `Represents`.

        Raises:
            ValueError: If the recommender has no vectors of rows and items.
        """
        return self._vectors().dense_keys().shape[1]

    def represented(
        self, context: HistoryBatch, responses: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle key"]:
        """See `Represents`: what the row asks with times what the item is found by.

        They add up to the item's dense score.

        Raises:
            ValueError: As for `represented_width`.
        """
        space = self._vectors()
        return (space.dense_queries(context)[:, None] * space.dense_keys()[responses]).float()

    def _vectors(self) -> DenseRetriever:
        if not isinstance(self.recommender, DenseRetriever):
            raise ValueError(  # noqa: TRY004  (an option of a run, said in one sentence)
                f"{type(self.recommender).__name__} has no vectors of rows and items to show."
            )
        return self.recommender

    def _rows(self, context: HistoryBatch) -> Float[Tensor, "batch item"]:
        return self._scorer.item_scores(context).float()

    @property
    def _scorer(self) -> ScoresItems:
        return cast("ScoresItems", self.recommender)
