"""Objectives that read comparisons or targets: a contrast with its terms, and plain imitation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from personalize.preference_optimization.auxiliary import Auxiliary
from personalize.preference_optimization.compared import (
    ComparisonBatch,
    Scored,
    policy_scores,
    scored,
)
from personalize.preference_optimization.contrast import Contrast
from personalize.preference_optimization.objective import Objective, Rollouts
from personalize.preference_optimization.policy import Policy


@final
class CompareObjective(Objective):
    """A contrast of a policy's scores, with terms beside it, averaged over comparisons.

    A comparison's weight is a factor of its loss, terms included, and the mean is over comparisons
    and not over weights. With `weight_inside` it is a factor of the contrast's logit instead, as
    SmPO has it: 0 has no gradient, and a negative weight pulls the other way.

    Beside `loss` and each term, `contrast` is its mean; `implicit_accuracy` the share of pairs of
    the best and another whose log-ratio is larger for the best, `ranking_accuracy` the same of
    scores; `log_prob_best` and `log_prob_other` are mean scores: where both fall, likelihood is
    displaced.
    """

    group_size = 0

    def __init__(
        self,
        contrast: Contrast,
        auxiliary: Sequence[Auxiliary] = (),
        *,
        weight_inside: bool = False,
    ) -> None:
        """Put together.

        Args:
            contrast: From scores to a loss.
            auxiliary: Terms beside it.
            weight_inside: Whether weights multiply the logit instead of the loss.
        """
        super().__init__()
        self.contrast = contrast
        self.auxiliary = nn.ModuleList(auxiliary)
        self.weight_inside = weight_inside
        self.uses_reference = contrast.uses_reference
        self.asks_reference = contrast.uses_mismatched

    def forward(
        self,
        policy: Policy,
        reference: Policy | None,
        batch: ComparisonBatch,
        rollouts: Rollouts | None = None,
    ) -> Mapping[str, Float[Tensor, ""]]:
        """See `Objective`.

        Raises:
            ValueError: If the reference is needed and neither given nor scored before.
        """
        missing = reference is None and batch.reference is None
        if self.uses_reference and missing:
            raise ValueError(f"{type(self.contrast).__name__} needs a reference; there is none.")
        found, _ = scored(policy, batch, reference if self.uses_reference else None)
        if self.contrast.uses_mismatched:
            found = replace(found, mismatched=mismatched_ratio(policy, reference, batch))
        if self.weight_inside:
            weight = torch.ones_like(found.weight)
            losses = self.contrast(replace(found, logit_weight=found.weight, weight=weight))
        else:
            weight = found.weight
            losses = self.contrast(found)
        parts = {"contrast": (weight * losses).mean()}
        for term in self.auxiliary:
            parts[str(term.name)] = (weight * term(policy, batch, found)).mean()
        loss = torch.stack(list(parts.values())).sum()
        told = {name: value.detach() for name, value in parts.items()}
        return {"loss": loss, **told, **agreement(found)}


@final
class ImitateObjective(Objective):
    """Plain fine-tuning: minus the log-probability of what was logged, summed over its steps.

    Reads column 0 alone, weighs it, and is averaged over rows.
    """

    uses_reference = False
    group_size = -1

    def forward(
        self,
        policy: Policy,
        reference: Policy | None,
        batch: ComparisonBatch,
        rollouts: Rollouts | None = None,
    ) -> Mapping[str, Float[Tensor, ""]]:
        """See `Objective`."""
        contexts, count = batch.contexts, batch.present.shape[1]
        if len(contexts) != len(batch):
            contexts = contexts.rows(slice(None, None, count))
        log_prob = policy.log_prob(contexts, batch.responses[:, :1]).sum(-1)[:, 0]
        loss = -(batch.weight * log_prob).mean()
        return {"loss": loss, "log_prob_best": log_prob.detach().mean()}


@torch.no_grad()
def mismatched_ratio(
    policy: Policy, reference: Policy | None, batch: ComparisonBatch
) -> Float[Tensor, ""]:
    """Mean log-ratio of each comparison's responses in the next one's context.

    An estimate from below of how far the policy is from the reference. Responses that are closed in
    the other context are left out; a batch of one comparison has no other and gives 0.

    Raises:
        ValueError: If there is no reference to ask: scores made before are of other contexts.
    """
    if reference is None:
        raise ValueError("mismatched responses need the reference itself, not only its scores.")
    if len(batch) == 1:
        return batch.weight.new_zeros(())
    moved = replace(batch, responses=batch.responses.roll(1, 0), present=batch.present.roll(1, 0))
    ratio = policy_scores(policy, moved).sum(-1) - policy_scores(reference, moved).sum(-1)
    counts = moved.present & ratio.isfinite()
    return ratio.where(counts, torch.zeros_like(ratio)).sum() / counts.sum().clamp(min=1)


@torch.no_grad()
def agreement(found: Scored) -> dict[str, Float[Tensor, ""]]:
    """How far scores agree with comparisons, and how likely both sides are."""
    others = found.present[:, 1:]
    pairs = others.sum()
    ratio, score = found.ratio(), found.score
    return {
        "implicit_accuracy": ((ratio[:, :1] > ratio[:, 1:]) & others).sum() / pairs,
        "ranking_accuracy": ((score[:, :1] > score[:, 1:]) & others).sum() / pairs,
        "log_prob_best": score[:, 0].mean(),
        "log_prob_other": (score[:, 1:] * others).sum() / pairs,
    }
