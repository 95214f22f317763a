"""A recommender steered by a chain as it stands in a configuration: what it names is opened."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_prep.artifact import read_manifest
from data_prep.errors import InputError
from personalize.rewards.critic import CriticContext
from personalize.rewards.stored_critic import read_critic
from personalize.steering.chain import Chain
from personalize.steering.edits import Maps, edited_by_all
from personalize.steering.stored_maps import read_maps
from recsys.batch import HistoryBatch
from recsys.critic_reader import CriticReader
from recsys.load import LoadedRecommender, load_recommender
from recsys.retriever.decode import CodeDecoder
from recsys.retriever.generative import GenerativeRetriever

Critique = Callable[
    [HistoryBatch, Int[Tensor, "batch candidate"]], Float[Tensor, "batch candidate"]
]


@dataclass(frozen=True)
class OpenedChain:
    """A chain with what it reads.

    Attributes:
        chain: The chain.
        negative: What guidance moves away from; None is the recommender without preferences.
        edits: Maps by goal dimension; empty edits nothing.
        critique: Value of candidates, in units of its own; None where the chain has no critic.
    """

    chain: Chain
    negative: CodeDecoder | None = None
    edits: Mapping[str, Maps] | None = None
    critique: Critique | None = None

    def editing(
        self,
        model: torch.nn.Module,
        names: tuple[str, ...],
        change: Float[Tensor, "batch goal"],
        *,
        copies: int = 1,
    ) -> AbstractContextManager[None]:
        """Edits towards a change: as strong as it is large, forwards or back; a whole one at most.

        Args:
            model: What is edited.
            names: Dimensions of the change; those without maps are not edited towards.
            change: What is asked for, in the units of the goal space.
            copies: How often the rows stand in what the model reads, one batch after the other.
        """
        if not self.edits:
            return nullcontext()
        amount = (change * self.chain.edits.strength).clamp(-1, 1).repeat(copies, 1)
        strengths = {
            name: amount[:, place] for place, name in enumerate(names) if name in self.edits
        }
        return edited_by_all(model, self.edits, strengths)


def opened_chain(chain: Chain, loaded: LoadedRecommender) -> OpenedChain:
    """The chain with the files it names read.

    Args:
        chain: What steers.
        loaded: What is steered; edits and critics must have been made for it.

    Raises:
        InputError: If a file is not there, or a negative does not generate semantic IDs.
        ArtifactMismatch: If one is damaged, or was made for another checkpoint.
    """
    content_hash = read_manifest(loaded.folder).content_hash
    return OpenedChain(
        chain,
        negative=_negative(chain),
        edits=_edits(chain, content_hash),
        critique=_critique(chain, loaded, content_hash),
    )


def _negative(chain: Chain) -> CodeDecoder | None:
    checkpoint = chain.guidance.negative
    if checkpoint is None or chain.guidance.weight == 1.0:
        return None
    negative = load_recommender(checkpoint).recommender
    if not isinstance(negative, GenerativeRetriever):
        raise InputError(
            f"guidance.negative must generate semantic IDs, {checkpoint} is a "
            f"{type(negative).__name__}."
        )
    return negative.eval()


def _edits(chain: Chain, content_hash: str) -> Mapping[str, Maps] | None:
    if chain.edits.folder is None or chain.edits.strength == 0:
        return None
    return read_maps(chain.edits.folder, checkpoint=content_hash)


def _critique(chain: Chain, loaded: LoadedRecommender, content_hash: str) -> Critique | None:
    folder = chain.selection.critic
    if folder is None or chain.selection.critic_weight == 0:
        return None
    critic = read_critic(folder).for_checkpoint(content_hash)
    reader = CriticReader.of(loaded)
    actions = reader.actions()

    def critique(
        batch: HistoryBatch, items: Int[Tensor, "batch candidate"]
    ) -> Float[Tensor, "batch candidate"]:
        context: CriticContext = reader.context(batch)
        return critic(actions[items.clamp_min(0)], context)

    return critique
