"""A retriever of semantic IDs as preference optimisation sees it; responses are items."""

from collections.abc import Iterator
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from data_prep.errors import InputError
from personalize.preference_optimization.policy import Drawn, Policy
from recsys.batch import HistoryBatch
from recsys.dense_policy import DensePolicy, ScoresItems
from recsys.recommender import Recommender
from recsys.retriever.causal import CausalRetriever
from recsys.retriever.decode import BeamSearch, Scoring
from recsys.retriever.generative import GenerativeRetriever
from recsys.retriever.sampler import TrieSampler


@final
class RetrieverPolicy(Policy[HistoryBatch]):
    """Draws an item code by code; `[batch, particle]` item ids, one step per level.

    Of a `CausalRetriever` these are its code heads, which its dense ranking does not read.

    Attributes:
        recommender: The retriever; its weights are the policy's.
        scoring: `renormalized` is the distribution on the children of a prefix, which items are
            drawn from. `raw` lets codes without an item count, as the training loss does: with it
            the mean over levels of minus `log_prob` of the target is that loss.
    """

    def __init__(
        self,
        recommender: GenerativeRetriever | CausalRetriever,
        *,
        scoring: Scoring = "renormalized",
        beam_width: int = 20,
    ) -> None:
        """Take a retriever.

        Args:
            recommender: What is tuned.
            scoring: See the class.
            beam_width: Prefixes kept by a beam, at least; see `BeamSearch`.

        Raises:
            ValueError: If it has no semantic IDs.
        """
        super().__init__()
        if recommender.trie is None:
            raise ValueError("the recommender has no semantic IDs, so its codes have no density.")
        self.recommender, self.trie = recommender, recommender.trie
        self.scoring: Scoring = scoring
        self.steps, self._search = recommender.trie.level_count, BeamSearch(beam_width, scoring)
        items = torch.arange(self.trie.item_count, device=self.trie.item_of_leaf.device)
        path = self.trie.ancestors(items)
        parents = torch.stack([torch.zeros_like(path[0]), *path[:-1]], 1)
        self.register_buffer("parents", parents, persistent=False)

    parents: Int[Tensor, "item level"]

    def log_prob(
        self, context: HistoryBatch, responses: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle level"]:
        """See `Policy`; every row is encoded once."""
        codes, found = self.choices(responses), []
        for level, logits, nodes in self._levels(context, responses):
            total = logits
            if self.scoring == "renormalized":
                total, _ = self.trie.expand(level, nodes, logits)
            wanted = codes[..., level : level + 1]
            chosen = logits.expand(-1, codes.shape[1], -1).gather(-1, wanted)[..., 0]
            found.append(chosen - total.logsumexp(-1))
        return torch.stack(found, -1)

    @torch.no_grad()
    def sample(self, context: HistoryBatch, count: int, *, seed: int, beam: bool = False) -> Drawn:
        """See `Policy`.

        Raises:
            ValueError: If a beam is asked for more items than there are.
        """
        if beam:
            if count > self.trie.item_count:
                raise ValueError(f"a beam of {count} is more than {self.trie.item_count} items.")
            items = self._search(self.recommender, context, self.trie, count=count).item_ids
            return Drawn(items, self.log_prob(context, items), sampled=False)
        sampler = TrieSampler(self.recommender, self.trie, scoring=self.scoring)
        state = sampler.init(context, context, count, seed=seed)
        known = [state.log_probability]
        for level in range(self.steps):
            state = sampler.step(state, level, sampler.predict)
            known.append(state.log_probability)
        items = self.trie.item_of_leaf[state.nodes].long()
        return Drawn(items, torch.stack(known, -1).diff(dim=-1), sampled=True)

    def logits(
        self, context: HistoryBatch, responses: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle level code"]:
        """See `Policy`; as wide as the level with the most codes."""
        width, found = max(self.trie.level_sizes), []
        for level, logits, nodes in self._levels(context, responses):
            choices = logits
            if self.scoring == "renormalized":
                _, codes, exists = self.trie.children_of(level, nodes)
                open_ = torch.zeros_like(logits).scatter_add(-1, codes, exists.to(logits)) > 0
                choices = logits.masked_fill(~open_, -torch.inf)
            choices = pad(choices, (0, width - choices.shape[-1]), value=-torch.inf)
            found.append(choices.expand(-1, responses.shape[1], -1))
        return torch.stack(found, 2)

    def choices(
        self, responses: Int[Tensor, "batch particle"]
    ) -> Int[Tensor, "batch particle level"]:
        """See `Policy`: the codes of the items."""
        return self.recommender.item_codes[responses]

    def represented_width(self) -> int:
        """See `Represents`."""
        return self.recommender.path_width

    def represented(
        self, context: HistoryBatch, responses: Int[Tensor, "batch particle"]
    ) -> Float[Tensor, "batch particle model"]:
        """See `Represents`: what the retriever holds after each code, averaged over levels."""
        return self.recommender.path_states(context, self.choices(responses)).float().mean(2)

    def _levels(
        self, context: HistoryBatch, responses: Int[Tensor, "batch particle"]
    ) -> Iterator[tuple[int, Float[Tensor, "batch _ code"], Int[Tensor, "batch _"]]]:
        """Every level with the logits of all its codes and the nodes they follow."""
        along = self.recommender.path_logits(context, self.choices(responses))
        for level, logits in enumerate(along):
            yield level, logits.float(), self.parents[responses[:, : logits.shape[1]], level]


def recommender_policy(
    recommender: Recommender, *, scoring: Scoring = "renormalized", beam_width: int = 20
) -> RetrieverPolicy | DensePolicy:
    """What a recommender ranks by, as a policy: its codes, or a score for every item.

    Args:
        recommender: A `CausalRetriever` is searched by its codes only where its ranking has a
            search.
        scoring: See `RetrieverPolicy`.
        beam_width: Likewise.

    Raises:
        InputError: If it has neither, or no weights.
    """
    if isinstance(recommender, GenerativeRetriever):
        return RetrieverPolicy(recommender, scoring=scoring, beam_width=beam_width)
    if isinstance(recommender, CausalRetriever) and recommender.ranking.search is not None:
        return RetrieverPolicy(recommender, scoring=scoring, beam_width=beam_width)
    if isinstance(recommender, ScoresItems) and any(True for _ in recommender.parameters()):
        return DensePolicy(recommender)
    raise InputError(
        f"{type(recommender).__name__} has no probabilities that could be tuned; tune one that is "
        "trained by gradients."
    )
