"""The diffusion planner's denoising as a chain of decisions, each with a probability of its own."""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from driving.planner.diffusion import TRAINING_STEPS, DiffusionPlanner
from driving.planner.diffusion_decoder import SeenScene
from driving.planner.going_on import going_on
from driving.planner.plan_contexts import PlanContexts, chosen_anchors, decoder_alone, drawn
from driving.planner.planner import PLAN_STEPS, StyleCondition
from personalize.preference_optimization.policy import Drawn, Policy

LOWEST, HIGHEST = -5.0, 2.0


def chain_log_prob(
    state: Float[Tensor, "*batch time 2"],
    mean: Float[Tensor, "*batch time 2"],
    deviation: float,
) -> Float[Tensor, "*batch"]:
    """Log-probability of a state that a mean was moved to, along and across, by normal noise.

    One number moves all times along the way, another moves them sideways; each counts from -5 to
    2, as a single step that is very unlikely would otherwise outweigh the chain.

    Args:
        state: Normalised places.
        mean: Where they would be without noise.
        deviation: Of the noise.
    """
    moved = (state - mean).mean(-2) / deviation
    log_prob = -0.5 * moved.square() - math.log(deviation) - 0.5 * math.log(2 * math.pi)
    return log_prob.clamp(LOWEST, HIGHEST).sum(-1)


@dataclass(frozen=True)
class _Sets:
    """One set of all anchors for each response: everything is [row of a response, anchor, ...]."""

    seen: SeenScene
    style: StyleCondition
    noisy: Float[Tensor, "set anchor time 2"]


@final
class ChainPolicy(Policy[PlanContexts]):
    """A response is the whole chain: `[state, time, 3]`, first to last state, and then the poses.

    The first decision is which anchor; then every denoising step moves the state of that anchor
    to its mean and a little aside, by a normal number along the way and one across, the last step
    too. All other anchors, which the decoder sees beside it, go where their mean is. A state has a
    heading only in the end, where it is denoised; before that it is 0.

    Noise at earlier steps moves what is driven by millimetres only: this planner answers relative
    to its anchors, so nearly all there is to explore is the anchor and the last step.

    Attributes:
        planner: Whose decoder is trained.
        steps: The choice of the anchor, and the denoising steps.
        eta: Share of the noise of DDPM.
        discount: What a step counts, by the number of steps that follow it.
        seed: Of the noise that all chains begin with.

    Source:
        ReCogDrive (Li et al., 2025, arXiv:2506.08052): steps of at least 0.04 when drawn and 0.1
        when scored, clamped log-probabilities, a discount of 0.6 per step, which is multiplied
        with the log-probabilities here: at the policy that drew, it gives the same gradient.
        Normal numbers along and across in place of one for every place, and the choice of an
        anchor, are ours.
    """

    def __init__(
        self,
        planner: DiffusionPlanner,
        *,
        denoising_steps: int = 3,
        eta: float = 1.0,
        least_drawn: float = 0.04,
        least_scored: float = 0.1,
        discount: float = 0.6,
        seed: int = 0,
    ) -> None:
        """Tune this planner.

        Raises:
            ValueError: If there are fewer than 2 steps, a deviation is not positive, or the
                discount or eta is not from 0 to 1.
        """
        super().__init__()
        if denoising_steps < 2:
            raise ValueError(f"a chain needs at least 2 denoising_steps, got {denoising_steps}.")
        if not (least_drawn > 0 and least_scored > 0):
            raise ValueError(
                "least_drawn and least_scored must be positive, got "
                f"{least_drawn:g} and {least_scored:g}."
            )
        if not (0 <= discount <= 1 and 0 <= eta <= 1):
            raise ValueError(f"discount and eta must be from 0 to 1, got {discount:g} and {eta:g}.")
        self.planner, self.eta = decoder_alone(planner), eta
        self.discount, self.seed = discount, seed
        self.steps = denoising_steps + 1
        self._least = least_drawn, least_scored
        times = torch.linspace(TRAINING_STEPS - 1, 0, denoising_steps).round().long()
        self._times = [int(time) for time in times]
        self._signal = [float(planner.signal[time]) for time in self._times]
        later = range(denoising_steps - 1, -1, -1)
        self._weights = [1.0, *(discount**number for number in later)]

    def log_prob(
        self, context: PlanContexts, responses: Float[Tensor, "batch particle state time 3"]
    ) -> Float[Tensor, "batch particle step"]:
        """See `Policy`; discounted."""
        rows, count = responses.shape[:2]
        states = responses.flatten(0, 1)
        index = self._anchor_of(states[:, 0, :, :2])
        sets, parts = self._begun(context, count), []
        for number in range(len(self._times)):
            means, deviation, logits = self._mean(sets, number, self._least[1])
            if number == 0:
                share = logits.float().log_softmax(-1)
                parts.append(share.gather(1, index[:, None])[:, 0])
            mean = means.take_along_dim(index[:, None, None, None], 1)[:, 0, :, :2]
            state = states[:, number + 1, :, :2]
            parts.append(chain_log_prob(state, mean, deviation))
            sets = self._moved(sets, means[..., :2], index, state)
        found = torch.stack(parts, -1) * parts[0].new_tensor(self._weights)
        return found.unflatten(0, (rows, count))

    @torch.no_grad()
    def sample(self, context: PlanContexts, count: int, *, seed: int, beam: bool = False) -> Drawn:
        """See `Policy`; a beam takes the likeliest anchors and moves no state."""
        rows = len(context)
        sets, states = self._begun(context, count), []
        anchors = len(self.planner.anchors)
        index = sets.noisy.new_zeros(0)
        noise = drawn(seed + 1, torch.randn, len(self._times), count, 1, 2).to(sets.noisy)
        noise = noise[:, None].expand(-1, rows, -1, -1, -1).flatten(1, 2) * (not beam)
        means = sets.noisy
        for number in range(len(self._times)):
            means, deviation, logits = self._mean(sets, number, self._least[0])
            if number == 0:
                share = logits.float().log_softmax(-1).view(rows, count, anchors)[:, 0]
                index = chosen_anchors(share, count, seed=seed, beam=beam).flatten()
                states.append(self._own(sets.noisy, index))
            state = self._own(means[..., :2], index) + deviation * noise[number]
            states.append(state)
            sets = self._moved(sets, means[..., :2], index, state)
        responses = self._responses(context, states, self._own(means, index), count)
        return Drawn(responses, self.log_prob(context, responses), sampled=not beam)

    def _responses(
        self,
        context: PlanContexts,
        states: list[Float[Tensor, "set time 2"]],
        last: Float[Tensor, "set time 3"],
        count: int,
    ) -> Float[Tensor, "batch particle state time 3"]:
        """The chain, and the poses that its last state means."""
        planner, heading = self.planner, last[..., 2:]
        silent = torch.zeros_like(heading)
        chain = [torch.cat([state, silent], -1) for state in states[:-1]]
        chain.append(torch.cat([states[-1], heading], -1))
        places = states[-1] * planner.scale_m + planner.centre_m
        changes = torch.cat([places, heading], -1).unflatten(0, (-1, count))
        poses = going_on(context.scene).poses(changes)
        whole = torch.stack(chain, 1).unflatten(0, (-1, count))
        return torch.cat([whole, poses[:, :, None]], 2)

    def _begun(self, context: PlanContexts, count: int) -> _Sets:
        """As many sets per row as there are responses, at the noisiest step."""
        planner = self.planner
        with torch.no_grad():
            encoded = planner.encoder(context.scene)
        seen = planner.decoder.see(encoded.tokens, encoded.mask).each_repeated(count)
        each = torch.arange(len(context), device=seen.mask.device).repeat_interleave(count)
        start = self._start().expand(len(each), -1, -1, -1)
        return _Sets(seen, context.style.rows(each), start)

    def _start(self) -> Float[Tensor, "anchor time 2"]:
        planner = self.planner
        clean = planner.clean[..., :2]
        noise = drawn(self.seed, torch.randn, len(clean), PLAN_STEPS, 2).to(clean)
        return planner.noised(clean, noise, self._times[0])

    def _anchor_of(self, first: Float[Tensor, "set time 2"]) -> Int[Tensor, " set"]:
        """The anchor whose noised places a chain began at."""
        return (self._start() - first[:, None]).square().sum((-1, -2)).argmin(-1)

    def _mean(
        self, sets: _Sets, number: int, least: float
    ) -> tuple[Float[Tensor, "set anchor time 3"], float, Float[Tensor, "set anchor"]]:
        """Where a step takes every anchor, how far noise may move it, and the scores."""
        planner = self.planner
        time = sets.noisy.new_full((len(sets.noisy),), float(self._times[number]))
        (said,) = planner.decoder(sets.noisy, planner.clean, time, sets.style, sets.seen)
        found = planner.normalised(planner.changes_of(said, planner.anchors))
        if number + 1 == len(self._times):
            return found, least, said.logits
        now, then = (self._signal[place] for place in (number, number + 1))
        spread = self.eta * math.sqrt((1 - then) / (1 - now) * (1 - now / then))
        left = (sets.noisy - math.sqrt(now) * found[..., :2]) / math.sqrt(1 - now)
        kept = math.sqrt(max(1 - then - spread**2, 0.0))
        places = math.sqrt(then) * found[..., :2] + kept * left
        return torch.cat([places, found[..., 2:]], -1), max(spread, least), said.logits

    def _moved(
        self,
        sets: _Sets,
        means: Float[Tensor, "set anchor time 2"],
        index: Int[Tensor, " set"],
        state: Float[Tensor, "set time 2"],
    ) -> _Sets:
        """All anchors at their means, but the chosen one at its state."""
        chosen = torch.arange(means.shape[1], device=index.device) == index[:, None]
        noisy = torch.where(chosen[..., None, None], state[:, None], means)
        return _Sets(sets.seen, sets.style, noisy)

    @staticmethod
    def _own(
        values: Float[Tensor, "set anchor time width"], index: Int[Tensor, " set"]
    ) -> Float[Tensor, "set time width"]:
        return values.take_along_dim(index[:, None, None, None], 1)[:, 0]
