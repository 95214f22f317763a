"""Where candidates for steered answers come from, in the modes that vectors take part in."""

from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor, nn

from recsys.batch import HistoryBatch
from recsys.dense import DenseRetriever
from recsys.opened_chain import OpenedChain
from recsys.proposals import Candidates, CatalogueProposer, Proposer
from recsys.recommender import Filters


def dense_proposer(
    model: nn.Module, space: DenseRetriever, keys: Float[Tensor, "item key"], width: int
) -> CatalogueProposer:
    """The best of tilted dense scores of all items.

    Args:
        model: The recommender, for edits of its activations.
        space: What gives queries.
        keys: What every item is found by.
        width: Candidates of every row.
    """

    def score(batch: HistoryBatch) -> Float[Tensor, "batch item"]:
        return space.dense_queries(batch).float() @ keys.T

    return CatalogueProposer(model, score, width)


@dataclass(frozen=True)
class HybridProposer(Proposer):
    """What is generated, steered, and the best of the items added since training, by vectors.

    Attributes:
        generated: Finds items by their codes.
        dense: Finds added items, and scores all candidates.
        added: Which items came after training.
        model: See the class it implements.
        stacks: Likewise.
    """

    generated: Proposer
    dense: CatalogueProposer
    added: Bool[Tensor, " item"]
    model: nn.Module
    stacks: bool = True

    def propose(
        self,
        batch: HistoryBatch,
        rewards: Float[Tensor, "batch item"] | None,
        opened: OpenedChain,
        *,
        filters: Filters,
        seed: int = 0,
    ) -> Candidates:
        """Candidates with dense scores, best first."""
        found = self.generated.propose(batch, rewards, opened, filters=filters, seed=seed)
        own = self.dense.scored(found.items, self.dense.scores(batch, opened), found.calls)
        known = filters.allowed_items
        only = self.added if known is None else self.added & known
        cold = self.dense.propose(
            batch, rewards, opened, filters=replace(filters, allowed_items=only), seed=seed
        )
        return own.united(cold)
