"""The objective of policy optimisation: draw a group per context, judge it, prefer the better."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from personalize.preference_optimization.compared import ComparisonBatch
from personalize.preference_optimization.divergence import divergence_k3, entropy
from personalize.preference_optimization.objective import Objective, Rollouts
from personalize.preference_optimization.policy import Policy, Rows
from personalize.preference_optimization.surrogate import Surrogate
from personalize.preference_optimization.surrogates import Clipped
from personalize.preference_optimization.token_weights import TokenWeight, weighted_gradient
from personalize.rewards.pipeline import RewardPipeline


@dataclass(frozen=True)
class Drawing:
    """How responses are drawn, and for how long they serve.

    Attributes:
        group_size: Responses per context.
        updates: Steps on the same responses; with more than one, ratios leave 1 and clipping acts.
        beam: Take the likeliest responses instead, as MiniOneRec does. They are no sample: the
            gradient is not that of the expected reward.

    Raises:
        ValueError: If a group has less than two responses or there is no update.
    """

    group_size: int = 16
    updates: int = 1
    beam: bool = False

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ValueError(f"group_size must be 2 or more, got {self.group_size}.")
        if self.updates < 1:
            raise ValueError(f"updates must be 1 or more, got {self.updates}.")


@final
class RolloutObjective(Objective):
    """A surrogate on the advantages of what was drawn, with terms that hold the policy back.

    Draws may serve for several updates: ratios are taken to the log-probabilities they were drawn
    with. Hold the policy in evaluation mode meanwhile, for dropout alone moves ratios.

    With a beam, divergence and entropy are logged as `beam_kl` and `beam_entropy`: they are no
    estimates of the policy's.

    Example:
        >>> objective = RolloutObjective(drawing=Drawing(group_size=8), kl_weight=0.04)
        >>> objective.group_size, objective.uses_reference
        (8, True)
    """

    def __init__(
        self,
        surrogate: Surrogate | None = None,
        pipeline: RewardPipeline | None = None,
        *,
        drawing: Drawing | None = None,
        kl_weight: float = 0.0,
        imitation_weight: float = 0.0,
        imitation_samples: int = 0,
        token_weight: TokenWeight | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            surrogate: From log-probabilities and advantages to a loss; None takes `Clipped`.
            pipeline: From rewards to advantages; None keeps rewards apart, normalises each within
                its group and sums them.
            drawing: Responses per context, and steps on them; None takes its defaults.
            kl_weight: Of the divergence from the reference (k3), summed over steps, as GRPO has it.
                TRL's default is 0; MiniOneRec's script has 1e-3, Plan-R1 0.1. Its gradient is that
                of `KL(reference || policy)`, which does little against a single response that is
                exploited; that of the pipeline is of the other direction.
            imitation_weight: Of minus the log-probability of what is imitated: behaviour cloning,
                as OneRec trains its supervised loss along. ReCogDrive has 0.1.
            imitation_samples: Imitate so many draws of the reference per context, as ReCogDrive
                does; 0 imitates what was logged.
            token_weight: How much steps count, for policies that have logits; None for alike.

        Raises:
            ValueError: If a weight or the number of samples is negative.
        """
        super().__init__()
        if not (kl_weight >= 0 and imitation_weight >= 0 and imitation_samples >= 0):
            raise ValueError(
                "kl_weight, imitation_weight and imitation_samples must not be negative, got "
                f"{kl_weight:g}, {imitation_weight:g} and {imitation_samples}."
            )
        drawing = drawing or Drawing()
        self.surrogate, self.token_weight = surrogate or Clipped(), token_weight
        self.pipeline = RewardPipeline() if pipeline is None else pipeline
        self.kl_weight, self.imitation_weight = kl_weight, imitation_weight
        self.imitation_samples = imitation_samples if imitation_weight else 0
        self.group_size, self.updates, self.beam = (
            drawing.group_size,
            drawing.updates,
            drawing.beam,
        )
        self.judges_reference = self.pipeline.judges_reference
        self.uses_reference = (
            self.judges_reference
            or kl_weight > 0
            or self.pipeline.kl_weight > 0
            or self.imitation_samples > 0
        )
        self.asks_reference = self.uses_reference  # of what is drawn no score was kept before
        self._calls = 0

    def forward(
        self,
        policy: Policy,
        reference: Policy | None,
        batch: ComparisonBatch,
        rollouts: Rollouts | None = None,
    ) -> Mapping[str, Float[Tensor, ""]]:
        """See `Objective`.

        Besides `loss` and its parts: the mean of each reward, the share that passes the gates, the
        share of contexts whose responses are all equally good, the share of steps that clipping
        left without a gradient, the effective sample size of the ratios as a share of the group and
        their maximum, divergence (k3) where there is a reference, and entropy where there are
        logits.

        Raises:
            ValueError: If there are no rollouts, or the reference is missing where it is needed.
            TypeError: If steps are weighted and the policy has no logits.
        """
        if rollouts is None:
            raise ValueError("rollouts must be given: this objective reads what was drawn.")
        if reference is None and self.uses_reference:
            raise ValueError("reference must be given: this objective needs one.")
        drawn, contexts = rollouts.drawn, batch.contexts
        theirs = log_ratio = None
        if reference is not None:
            with torch.no_grad():
                theirs = reference.log_prob(contexts, drawn.responses)
            log_ratio = (drawn.log_prob - theirs).sum(-1)
        advantage = self.pipeline(
            rollouts.reward,
            rollouts.gate,
            rollouts.reference_reward,
            rollouts.context_weights,
            log_ratio,
        )
        imitated = self._imitated(reference, batch).to(drawn.responses)
        asked = torch.cat([drawn.responses, imitated], 1)
        count = drawn.responses.shape[1]
        every, logits = step_log_probs(policy, contexts, asked)
        new = counted = every[:, :count]
        found: dict[str, Tensor] = {}
        if logits is not None:
            logits = logits[:, :count].detach()
            found["entropy"] = entropy(logits).mean()
        if self.token_weight is not None:
            if logits is None:
                raise TypeError(f"token_weight needs logits; {type(policy).__name__} has none.")
            weight = self.token_weight(logits, policy.choices(drawn.responses), advantage)
            counted = weighted_gradient(new, weight)
        terms = {"surrogate": self.surrogate(counted, drawn.log_prob, advantage).sum(-1).mean()}
        if theirs is not None:
            found["kl"] = divergence_k3(new, theirs).sum(-1).mean()
            terms["penalty"] = self.kl_weight * found["kl"]
        if imitated.shape[1]:
            terms["imitation"] = -self.imitation_weight * every[:, count:].sum(-1).mean()
        if not drawn.sampled:
            found = {f"beam_{name}": value for name, value in found.items()}
        found |= terms | rollout_health(rollouts, advantage)
        found |= ratio_health(self.surrogate, new, drawn.log_prob, advantage)
        loss = torch.stack(list(terms.values())).sum()
        return {"loss": loss} | {name: value.detach() for name, value in found.items()}

    def _imitated(self, reference: Policy | None, batch: ComparisonBatch) -> Tensor:
        """What is imitated in each context; nothing (`[batch, 0, ...]`) without a weight."""
        if reference is None or not self.imitation_samples:
            return batch.responses[:, : 1 if self.imitation_weight else 0]
        self._calls += 1
        drawn = reference.sample(batch.contexts, self.imitation_samples, seed=self._calls)
        return drawn.responses

    def get_extra_state(self) -> Tensor:
        """How often the reference was asked to draw, so that a resumed run draws on."""
        return torch.tensor(self._calls)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from there."""
        self._calls = int(state)


def step_log_probs(
    policy: Policy, contexts: Rows, responses: Tensor
) -> tuple[
    Float[Tensor, "batch particle step"], Float[Tensor, "batch particle step choice"] | None
]:
    """Log-probabilities of every step, and the logits behind them where the policy has any.

    Where it has, both come of one pass.
    """
    if type(policy).logits is Policy.logits:
        return policy.log_prob(contexts, responses), None
    logits = policy.logits(contexts, responses)
    chosen = policy.choices(responses)[..., None]
    return logits.log_softmax(-1).gather(-1, chosen)[..., 0], logits


def rollout_health(
    rollouts: Rollouts, advantage: Float[Tensor, "batch particle"]
) -> dict[str, Float[Tensor, ""]]:
    """What was drawn is worth: mean rewards, share past the gates, share of groups all alike."""
    found = {
        f"reward_{name}": rollouts.reward[..., number].mean()
        for number, name in enumerate(rollouts.names)
    }
    found["gate_pass_share"] = rollouts.gate.to(advantage).mean()
    alike = advantage.amax(1) == advantage.amin(1)
    found["zero_variance_share"] = alike.to(advantage).mean()
    return found


def ratio_health(
    surrogate: Surrogate,
    new: Float[Tensor, "batch particle step"],
    old: Float[Tensor, "batch particle step"],
    advantage: Float[Tensor, "batch particle"],
) -> dict[str, Float[Tensor, ""]]:
    """How far the policy is from that which drew, and what clipping does about it.

    `clip_share` counts steps of responses with an advantage whose loss has no gradient, whatever
    the surrogate's way of clipping is. The effective sample size is that of the responses' ratios
    within their group, as a share of it: 1 where nothing has moved.
    """
    with torch.enable_grad():
        leaf = new.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(surrogate(leaf, old, advantage).sum(), leaf)
    matters = (advantage != 0)[..., None].expand_as(slope)
    still = (slope == 0) & matters
    ratio = (new - old).detach().sum(-1).clamp(-20, 20).exp()
    effective = ratio.sum(1).square() / ratio.square().sum(1) / ratio.shape[1]
    return {
        "clip_share": still.sum() / matters.sum().clamp_min(1),
        "effective_sample_share": effective.mean(),
        "ratio_max": ratio.amax(),
    }
