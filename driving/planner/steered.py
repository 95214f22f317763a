"""The diffusion planner steered by a chain towards goals, in the one order of its components."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float, Int
from torch import Tensor

from driving.goals import PlanGoals, driven_candidates, told
from driving.planner.diffusion import DENOISING_STEPS, DiffusionPlanner
from driving.planner.diffusion_sampler import DiffusionSampler
from driving.planner.goal_worth import no_nearer_contact, smallest_strength, standardized
from driving.planner.going_on import going_on
from driving.planner.guided_steps import guided_steps, no_style, own_calls
from driving.planner.planner import PlannerInput, Plans, StyleCondition
from driving.planner.proposal_score import time_to_collision
from driving.planner.scene_encoder import SceneTokens
from personalize.evaluation.goal_space import GoalSpace
from personalize.steering.chain import Chain
from personalize.steering.goals import GoalCloseness, Goals, closeness
from personalize.steering.guidance import GuidedPredict, Under
from personalize.steering.particles import neighbours, steer

Edit = Callable[[Goals], AbstractContextManager[None]]
"""Opens a block in which the planner's activations are edited towards goals, row by row."""
Critique = Callable[
    [Float[Tensor, "batch candidate time 3"], PlannerInput, StyleCondition],
    Float[Tensor, "batch candidate"],
]
"""What candidates are worth under a style, higher is better."""


class SteeredPlanner:
    """Steers a planner: told, edited, guided, sampled, gated and selected.

    Rows that ask for nothing, and all rows where the chain is neutral, get the planner's own plans
    to the last bit. The safety gate of the planner's selection stays shut whatever is asked: it is
    looked at last, of the scene as it is without edits, and a candidate that it keeps out scores
    `-inf`.

    Attributes:
        calls: Predictions per context, where one answers for a whole set of anchors.
    """

    def __init__(
        self,
        planner: DiffusionPlanner,
        chain: Chain,
        space: GoalSpace,
        *,
        negative: DiffusionPlanner | None = None,
        edits: Edit | None = None,
        critic: Critique | None = None,
        denoising_steps: int = 10,
    ) -> None:
        """Hold what steers; `driving.opened_chain` opens what a chain names.

        Args:
            planner: The planner.
            chain: What steers.
            space: What goals are told in; see `driving.goals.plan_space`.
            negative: What guidance moves away from; None is the planner under no style.
            edits: Opens the edits of a chain that has any.
            critic: Values candidates where the chain asks it.
            denoising_steps: Of particles, which are denoised with noise.

        Raises:
            ValueError: If the chain looks ahead, which plans cannot; if it names what was not
                given here; or if the negative has other anchors, or particles beside it.
        """
        if chain.lookahead.strength:
            raise ValueError(
                "chain.lookahead steers semantic IDs only; steer plans by particles or selection."
            )
        given = {
            "edits": (chain.edits.strength and chain.edits.folder, edits),
            "guidance.negative": (chain.guidance.weight != 1 and chain.guidance.negative, negative),
            "selection.critic": (chain.selection.critic_weight, critic),
        }
        for name, (named, there) in given.items():
            if named and there is None:
                raise ValueError(f"chain.{name} is asked for but was not opened; pass it.")
        if negative is not None and chain.particles is not None:
            raise ValueError(
                "particles can be guided away from no style only; leave guidance.negative out."
            )
        if negative is not None and not _same_anchors(planner, negative):
            raise ValueError("negative must have the planner's anchors; make it from that planner.")
        self._planner, self._chain, self._space = planner, chain, space
        self._negative, self._edits, self._critic = negative, edits, critic
        self._reward = PlanGoals(space)
        self._sampler = DiffusionSampler(planner, steps=denoising_steps, eta=1.0)
        own = planner.guidance if planner.reads_style else 1.0
        self._weight = chain.guidance.weight if chain.guidance.weight != 1 else own
        self._particles = chain.particles
        if chain.particles is not None and chain.particles.strength == 0:
            self._particles = None
        self._holds = chain.selection.hold and chain.selection.strength != 0
        self.calls = self._count_calls()

    @property
    def neutral(self) -> bool:
        """Whether the chain steers nothing."""
        chain = self._chain
        return self._particles is None and not (
            chain.telling.strength
            or (chain.edits.strength and chain.edits.folder)
            or chain.guidance.weight != 1
            or chain.selection.strength
            or chain.selection.critic_weight
        )

    @torch.no_grad()
    def plan_to(
        self, scene: PlannerInput, style: StyleCondition, goals: Goals, *, seed: int = 0
    ) -> Plans:
        """Candidates with the scores by which one is taken.

        Args:
            scene: A batch.
            style: The person's own; goals are told over it.
            goals: A goal per row, in the units of the space.
            seed: Of all that is drawn.

        Raises:
            ValueError: If goals are not of the space or not as many as scenes.
        """
        if goals.values.shape != (len(style.values), len(self._space)):
            raise ValueError(
                f"goals must be {len(style.values)} rows of {', '.join(self._space.names)}, got "
                f"{tuple(goals.values.shape)}."
            )
        asked = goals.mask.any(1)
        if self.neutral or not bool(asked.any()):
            return self._planner.plan(scene, style, seed=seed)
        if bool(asked.all()):
            return self._steered(scene, style, goals, seed)
        some, others = asked.nonzero()[:, 0], (~asked).nonzero()[:, 0]
        steered = self._steered(scene.rows(some), style.rows(some), goals.rows(some), seed)
        own = self._planner.plan(scene.rows(others), style.rows(others), seed=seed)
        return _joined(some, steered, others, own)

    def _steered(
        self, scene: PlannerInput, style: StyleCondition, goals: Goals, seed: int
    ) -> Plans:
        strength = self._chain.telling.strength
        encoded = self._planner.encoder(scene)  # not edited: no edit may open the safety gate
        found = [
            self._sampled(scene, encoded, style, near, goals, seed)
            for near in self.around(goals, seed)
        ]
        asked = told(style, goals, self._space.names, strength=strength)
        plans = self._planner.picked(
            scene,
            encoded,
            torch.cat([changes for _, changes, _ in found], 1),
            torch.cat([logits.log_softmax(1) for _, _, logits in found], 1),
            asked,
        )
        poses = torch.cat([own for own, _, _ in found], 1)
        wanted = self._held(scene, style, goals, seed) if self._holds else goals
        return Plans(poses, plans.scores + self._worth(scene, poses, plans.scores, wanted, asked))

    def _held(self, scene: PlannerInput, style: StyleCondition, goals: Goals, seed: int) -> Goals:
        """The goals, and everything else as it is in the planner's own choice."""
        own = self._planner.plan(scene, style, seed=seed).best[:, None]
        there = self._reward(own, scene)[:, 0]
        return Goals(torch.where(goals.mask, goals.values, there), torch.ones_like(goals.mask))

    def around(self, goals: Goals, seed: int) -> list[Goals]:
        """The stated goals, and others at the same distance from the centre of goal space."""
        hood = self._chain.neighbourhood
        if hood.largest_angle_rad == 0 or hood.count == 1:
            return [goals]
        from_centre = (goals.values - 0.5) * goals.mask
        length = from_centre.norm(dim=1, keepdim=True)
        near = neighbours(
            from_centre / length.clamp_min(1e-6),
            hood.count - 1,
            largest_angle_rad=hood.largest_angle_rad,
            seed=seed,
        )
        every = torch.ones_like(goals.mask) & (length > 0)
        mask = goals.mask | every
        return [goals] + [
            Goals((0.5 + other * length).clamp(0, 1) * mask, mask) for other in near.unbind(1)
        ]

    def _sampled(
        self,
        scene: PlannerInput,
        encoded: SceneTokens,
        style: StyleCondition,
        near: Goals,
        goals: Goals,
        seed: int,
    ) -> tuple[
        Float[Tensor, "batch candidate time 3"],
        Float[Tensor, "batch candidate time 3"],
        Float[Tensor, "batch candidate"],
    ]:
        """Candidates that were told goals near the stated ones, their changes and their logits."""
        chain, planner = self._chain, self._planner
        asked = told(style, near, self._space.names, strength=chain.telling.strength)
        edited = nullcontext() if self._edits is None else self._edits(near)
        with edited:
            if self._particles is None:
                denoised = guided_steps(
                    planner,
                    scene,
                    asked,
                    weight=self._weight,
                    negative=self._negative,
                    encoded=encoded if self._edits is None else None,
                    seed=seed,
                )
                poses = going_on(scene).poses(denoised.changes)
                return poses, denoised.changes, denoised.logits
            drawn = steer(
                self._sampler,
                scene,
                asked,
                GoalCloseness(self._reward, goals),
                self._particles,
                predict=self._predict(style),
                seed=seed,
            )
        return drawn.x, going_on(scene).changes(drawn.x), drawn.log_weight

    def _predict(self, style: StyleCondition) -> GuidedPredict:
        """The prediction of particles."""
        away = Under(self._sampler.predict, no_style(style))
        return GuidedPredict(self._sampler.predict, away, self._weight)

    def _worth(
        self,
        scene: PlannerInput,
        poses: Float[Tensor, "batch candidate time 3"],
        scores: Float[Tensor, "batch candidate"],
        goals: Goals,
        style: StyleCondition,
    ) -> Float[Tensor, "batch candidate"]:
        """What is added to the scores: `-inf` where a contact comes nearer than it would anyhow."""
        selection = self._chain.selection
        worth = torch.zeros_like(scores)
        if not (selection.strength or selection.critic_weight):
            return worth
        rides = driven_candidates(scene, poses)
        contact_s = time_to_collision(scene, rides)
        worth = worth.masked_fill(~no_nearer_contact(contact_s, scores), -torch.inf)
        if selection.critic_weight and self._critic is not None:
            worth = worth + selection.critic_weight * standardized(
                self._critic(poses, scene, style)
            )
        if selection.strength:
            close = closeness(self._reward.of_rides(rides, scene), goals)
            strength = torch.full_like(scores[:, :1], selection.strength)
            if selection.calibrate:
                least = smallest_strength(scores + worth, close, largest=selection.strength)
                strength = least.unsqueeze(-1)
            worth = worth + strength * close
        return worth

    def _count_calls(self) -> int:
        hood = self._chain.neighbourhood
        sets = hood.count if hood.largest_angle_rad > 0 else 1
        passes = len(DENOISING_STEPS)
        if self._particles is not None:
            each = self._particles.count // len(self._planner.anchors)
            passes = self._sampler.steps * each
        held = own_calls(self._planner) if self._holds else 0
        return sets * passes * (2 if self._weight != 1 else 1) + held


def _same_anchors(one: DiffusionPlanner, other: DiffusionPlanner) -> bool:
    names = ("anchors", "centre_m", "scale_m", "unit")
    pairs = [(getattr(one, name), getattr(other, name)) for name in names]
    return all(mine.shape == its.shape and bool((mine == its).all()) for mine, its in pairs)


def _joined(
    some: Int[Tensor, " some"], steered: Plans, others: Int[Tensor, " other"], own: Plans
) -> Plans:
    """Rows of both in their places; where there are fewer candidates the first stands in, out."""
    rows, width = len(some) + len(others), steered.scores.shape[1]
    missing = width - own.scores.shape[1]
    spare = own.poses[:, :1].expand(-1, missing, -1, -1)
    poses = steered.poses.new_zeros(rows, *steered.poses.shape[1:])
    scores = steered.scores.new_zeros(rows, width)
    poses[some], scores[some] = steered.poses, steered.scores
    poses[others] = torch.cat([own.poses, spare], 1)
    scores[others] = torch.nn.functional.pad(own.scores, (0, missing), value=-torch.inf)
    return Plans(poses, scores)
