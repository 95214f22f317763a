"""The command `recsys negative`: a worse copy of a recommender, to be guided away from."""

import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_prep.artifact import read_artifact
from data_prep.errors import InputError
from data_prep.schema import INTERACTIONS
from personalize.checkpoint import KIND
from personalize.negative_copy import FineTuning, fine_tuned, write_copy
from recsys.batch import HistoryBatch
from recsys.collate import prefix_batch, windows
from recsys.histories import Histories, Stretches
from recsys.load import LoadedRecommender, load_recommender
from recsys.recommender import Recommender
from recsys.retriever.guidance import without_preferences


@dataclass(frozen=True)
class SelfSampling:
    """How a recommender draws the items that its negative copy learns.

    Attributes:
        top_p: Share of the probability that is kept: the likeliest items that reach it together.
            Less than 1 draws out what is likely anyway.
        candidates: Items asked for; what is not among them is not drawn.

    Raises:
        InputError: If a number is out of range.
    """

    top_p: float = 0.9
    candidates: int = 50

    def __post_init__(self) -> None:
        if not 0 < self.top_p <= 1:
            raise InputError(f"--top-p must be above 0 and at most 1, got {self.top_p:g}.")
        if self.candidates < 1:
            raise InputError(f"--candidates must be at least 1, got {self.candidates}.")


@dataclass(frozen=True)
class TrainingContexts:
    """Histories of the training split, without preferences; what came after them is not there.

    Attributes:
        histories: All histories.
        stretches: One row per training interaction.
    """

    histories: Histories
    stretches: Stretches

    @classmethod
    def of(cls, loaded: LoadedRecommender) -> "TrainingContexts":
        """The contexts a recommender was trained in.

        Raises:
            InputError: If there are none.
        """
        table = read_artifact(loaded.paths["tables"], kind="reviews").table(INTERACTIONS)
        histories = Histories.from_interactions(table)
        stretches = histories.prefixes(("train",), maximum_history=loaded.maximum_history)
        if not len(stretches):
            raise InputError(f"{loaded.paths['tables']} has no training history to learn from.")
        return cls(histories, stretches)

    def __call__(self, numbers: Int[np.ndarray, " row"]) -> HistoryBatch:
        """A batch of them; its targets mean nothing yet."""
        starts, lengths = self.stretches.starts[numbers], self.stretches.lengths[numbers]
        history = windows(self.histories.item_ids, starts, lengths)
        return prefix_batch(numbers, history, np.zeros(len(numbers), np.int64), None)

    def __len__(self) -> int:
        """Number of contexts."""
        return len(self.stretches)


def write_negative(  # noqa: PLR0913  (one parameter per option of the command)
    *,
    checkpoint: Path,
    out: Path,
    tables: Path | None = None,
    vectors: Path | None = None,
    semantic_ids: Path | None = None,
    steps: int = 300,
    batch_size: int = 128,
    learning_rate: float = 2e-4,
    top_p: float = 0.9,
    candidates: int = 50,
    seed: int = 0,
    device: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a negative copy of a recommender: a checkpoint that `load_recommender` reads.

    Args:
        checkpoint: A run, whose best one is taken, or a checkpoint.
        out: Folder to write.
        tables: Artifact `reviews`, where it is no longer where the run found it.
        vectors: Artifact `vectors`, likewise.
        semantic_ids: Artifact `semantic_ids`, likewise.
        steps: Steps of the optimizer.
        batch_size: Histories in a step.
        learning_rate: Of the optimizer.
        top_p: See `SelfSampling`.
        candidates: See `SelfSampling`.
        seed: Of everything that is drawn.
        device: Torch device. Default: a GPU where there is one.
        overwrite: Replace a checkpoint that is there.

    Raises:
        InputError: If a number is out of range, or the recommender has no weights to train.
        ArtifactMismatch: If an artifact does not fit.
    """
    settings = FineTuning(steps, batch_size, learning_rate, seed)
    sampling = SelfSampling(top_p, candidates)
    loaded = load_recommender(checkpoint, tables=tables, vectors=vectors, semantic_ids=semantic_ids)
    if not any(True for _ in loaded.recommender.parameters()):
        raise InputError(
            f"{loaded.folder} holds {type(loaded.recommender).__name__}, which has no weights; "
            "make a negative copy of a recommender that is trained."
        )
    contexts = TrainingContexts.of(loaded)
    target = device or ("cuda" if torch.cuda.is_available() else "cpu")
    negative = negative_recommender(loaded.recommender.to(target), contexts, settings, sampling)
    write_copy(
        read_artifact(loaded.folder, kind=KIND),
        negative.state_dict(),
        out,
        command="recsys negative",
        prefixes=("recommender.",),
        options={"checkpoint": str(checkpoint), **asdict(settings), **asdict(sampling)},
        overwrite=overwrite,
    )


def negative_recommender(
    recommender: Recommender,
    contexts: TrainingContexts,
    settings: FineTuning,
    sampling: SelfSampling,
) -> Recommender:
    """A copy that was fine-tuned on what the recommender itself answers to no preferences.

    Args:
        recommender: On the device to train on; it stays as it is.
        contexts: Histories to learn after.
        settings: How to learn.
        sampling: How answers are drawn.

    Source:
        In the manner of Wang et al., 2025, Self-NPO, arXiv:2505.11777, which fine-tunes a
        diffusion model on what itself makes; that it is items, drawn under no preference, is ours.
    """
    reference = copy.deepcopy(recommender).requires_grad_(requires_grad=False).eval()
    student = copy.deepcopy(recommender).requires_grad_(requires_grad=True).train()
    device = next(recommender.parameters()).device
    generator = np.random.default_rng(settings.seed)

    def loss(_number: int) -> Tensor:
        chosen = generator.integers(0, len(contexts), settings.batch_size)
        batch = without_preferences(contexts(chosen).to(device))
        return student.loss(with_own_answers(reference, batch, sampling))

    fine_tuned(student, loss, settings, description="steps learnt")
    return student.eval()


@torch.no_grad()
def with_own_answers(
    recommender: Recommender, batch: HistoryBatch, sampling: SelfSampling
) -> HistoryBatch:
    """The batch with a target of the recommender's own for every row, drawn by its scores.

    Scores count as logits; those of a beam search are log-probabilities. A row without any answer
    has no target. Random numbers come from torch's own generator.
    """
    found = recommender.recommend(batch, count=sampling.candidates)
    shares = nucleus(found.scores.float(), sampling.top_p)
    real = found.item_ids[:, :1] >= 0
    place = torch.multinomial(torch.where(real, shares, 1.0), 1)
    items = found.item_ids.gather(1, place)
    return replace(batch, target_item_ids=items.clamp_min(0), target_mask=real)


def nucleus(logits: Float[Tensor, "batch rank"], top_p: float) -> Float[Tensor, "batch rank"]:
    """Probabilities of the fewest best that reach a share together; 0 elsewhere.

    Args:
        logits: Best first; `-inf` is never drawn.
        top_p: The share, above 0 and at most 1. The best is always among them.

    Returns:
        Shares that add up to 1; NaN in a row of which all are `-inf`.

    Source:
        Holtzman et al., 2020, The Curious Case of Neural Text Degeneration, arXiv:1904.09751.

    Example:
        >>> nucleus(torch.tensor([[0.5, 0.3, 0.2]]).log(), 0.7)
        tensor([[0.6250, 0.3750, 0.0000]])
    """
    shares = logits.softmax(-1)
    before = shares.cumsum(-1) - shares
    kept = shares * (before < top_p)
    return kept / kept.sum(-1, keepdim=True)
