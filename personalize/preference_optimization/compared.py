"""What a contrast reads: comparisons as batches of responses, and the scores they were given."""

from dataclasses import dataclass, fields, replace
from typing import Any, Generic

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from personalize.preference_optimization.policy import ContextRows, Policy


@dataclass(frozen=True)
class ComparisonBatch(Generic[ContextRows]):
    """Comparisons with their contexts and responses; column 0 is the best of each row.

    Attributes:
        contexts: One per comparison, which all its responses share; or one per response, row after
            row, where contexts are compared too.
        responses: `[comparison, response, ...]`.
        present: Which responses are there; the best always is.
        strength: 0 to 1, see `Comparisons`.
        margin: What the best should lead by, in units of `beta` times the score, which is a
            policy's implicit reward and a reward model's reward.
        weight: How much each comparison counts: a factor of its loss. Where the objective puts it
            inside the loss it is a factor of the logit instead, and may be negative (SmPO).
        grade: Graded relevance of each response, for lists; higher is better.
        group: Number of the annotator or of their group.
        reference: The reference's score of every response where it was computed before.
        numbers: Number of every context, as the half knows it; None where nobody asks.
    """

    contexts: ContextRows
    responses: Tensor
    present: Bool[Tensor, "comparison response"]
    strength: Float[Tensor, " comparison"]
    margin: Float[Tensor, " comparison"]
    weight: Float[Tensor, " comparison"]
    grade: Float[Tensor, "comparison response"]
    group: Int[Tensor, " comparison"]
    reference: Float[Tensor, "comparison response"] | None = None
    numbers: Int[Tensor, " context"] | None = None

    def __len__(self) -> int:
        """Number of comparisons."""
        return len(self.present)

    def to(self, target: torch.device | str) -> "ComparisonBatch[ContextRows]":
        """The same batch on another device."""
        moved: dict[str, Any] = {"contexts": self.contexts.to(target)}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                moved[field.name] = value.to(target, non_blocking=True)
        return replace(self, **moved)


@dataclass(frozen=True)
class Scored:
    """Scores of comparisons, column 0 the best: a policy's, a reward model's, minus a regret.

    Attributes:
        score: Log-probability summed over steps, or any other score; higher is better.
        reference: The reference's score; zeros where there is none.
        steps: Number of steps each score is a sum of; ones where it is none.
        present: See `ComparisonBatch`; `strength`, `margin`, `weight` and `grade` likewise.
        logit: A ready logit of "the first is preferred to the second", for models that only compare
            (`SkewSymmetricHead`); None takes `beta` times the difference of scores.
        logit_weight: A factor of the logit inside the loss; None is 1.
        mismatched: Mean log-ratio of responses in contexts that are not theirs, without a gradient,
            for contrasts that need an estimate of the KL divergence (KTO).
    """

    score: Float[Tensor, "comparison response"]
    reference: Float[Tensor, "comparison response"]
    steps: Float[Tensor, "comparison response"]
    present: Bool[Tensor, "comparison response"]
    strength: Float[Tensor, " comparison"]
    margin: Float[Tensor, " comparison"]
    weight: Float[Tensor, " comparison"]
    grade: Float[Tensor, "comparison response"]
    logit: Float[Tensor, " comparison"] | None = None
    logit_weight: Float[Tensor, " comparison"] | None = None
    mismatched: Float[Tensor, ""] | None = None

    @classmethod
    def of(
        cls,
        score: Float[Tensor, "comparison response"],
        reference: Float[Tensor, "comparison response"] | None = None,
        **others: Tensor,
    ) -> "Scored":
        """Scores with everything else neutral: certain labels, no margin, weight 1.

        Example:
            >>> Scored.of(torch.tensor([[2.0, 1.0]])).win_share
            tensor([1.])
        """
        ones, rows = torch.ones_like(score), score.new_ones(len(score))
        zeros = torch.zeros_like(score)
        neutral = {
            "reference": zeros if reference is None else reference,
            "steps": ones,
            "present": ones.bool(),
            "strength": rows,
            "margin": torch.zeros_like(rows),
            "weight": rows,
            "grade": zeros,
        }
        return cls(score=score, **{**neutral, **others})

    @property
    def win_share(self) -> Float[Tensor, " comparison"]:
        """The probability the best should win with: 1/2 for equals, 1 where it is certain."""
        return (1 + self.strength) / 2

    def ratio(self, power: float = 1.0) -> Float[Tensor, "comparison response"]:
        """Score minus `power` times the reference's: the log-ratio of the two."""
        return self.score - power * self.reference


def policy_scores(
    policy: Policy, batch: ComparisonBatch
) -> Float[Tensor, "comparison response step"]:
    """Log-probabilities of every step of every response; what is absent has some value too."""
    rows, count = batch.present.shape
    if len(batch.contexts) == rows:
        return policy.log_prob(batch.contexts, batch.responses)
    flat = policy.log_prob(batch.contexts, batch.responses.flatten(0, 1)[:, None])
    return flat[:, 0].unflatten(0, (rows, count))


def scored(
    policy: Policy, batch: ComparisonBatch, reference: Policy | None = None
) -> tuple[Scored, Float[Tensor, "comparison response step"]]:
    """The policy's scores of a batch beside the reference's, and the log-probabilities by step.

    Args:
        policy: What is trained.
        batch: Comparisons; scores of the reference that it carries are used.
        reference: Asked where the batch carries none; None takes zeros.
    """
    by_step = policy_scores(policy, batch)
    score = by_step.sum(-1)
    known = batch.reference
    if known is None and reference is not None:
        with torch.no_grad():
            known = policy_scores(reference, batch).sum(-1)
    return (
        Scored(
            score=score,
            reference=torch.zeros_like(score) if known is None else known.to(score),
            steps=torch.full_like(score, float(by_step.shape[-1])),
            present=batch.present,
            strength=batch.strength,
            margin=batch.margin,
            weight=batch.weight,
            grade=batch.grade,
        ),
        by_step,
    )
