"""The planner as the steerability evaluation looks at it: moments of logs, planned and driven."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_prep.artifact import Artifact, read_artifact
from data_prep.errors import InputError
from data_prep.scenes.tables import SCENES
from driving.aimed_planner import AimedPlanner
from driving.evaluation.conditions import asked_styles
from driving.evaluation.drive import SCORED_S, with_agents
from driving.evaluation.judge import logged_ride, one_candidate, tracked
from driving.goal_measures import GOAL_NAMES, Measured
from driving.goals import columns_of, driven_candidates, driven_goals, plan_space
from driving.load import LoadedPlanner, load_planner
from driving.metrics.score import pdm_score
from driving.moments import Moments, read_moments
from driving.opened_chain import opened_chain
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.going_on import going_on
from driving.planner.guided_steps import guided_steps, own_calls
from driving.planner.planner import Planner, StyleCondition
from driving.planner.steered import SteeredPlanner
from driving.simulation.rollout import roll_out
from driving.simulation.state import Motion
from driving.world import World
from personalize.evaluation.goal_space import GoalSpace, fitted_limits
from personalize.evaluation.steerable import (
    REPORTED,
    TUNING,
    Outcome,
    Steerable,
    SteerableSource,
)
from personalize.steering.chain import Chain
from personalize.steering.goals import Goals

QUALITY = ("pdms", "no_collision", "drivable_area", "comfort")
POOL_STYLES = (
    "none",
    "conservative",
    "aggressive",
    "speed-1",
    "speed+1",
    "time_gap-1",
    "time_gap+1",
)
POOL_GUIDANCE = 2.0
CONTEXTS = 256
"""Most moments of each split."""


class SteerablePlans(Steerable):
    """A trained diffusion planner with moments of logs; a context's number is its `sample_id`.

    A plan is driven by tracker and bicycle for four seconds and measured in the world as it went
    on; see `driving.goals.driven_goals`. No style is asked for beside the goals.

    Attributes:
        space: See the class it implements.
        quality_names: Likewise; the PDM score and three of its parts.
        facts: Likewise.
    """

    def __init__(
        self,
        planner: DiffusionPlanner,
        moments: Moments,
        facts: Mapping[str, Any],
        *,
        batch_size: int = 64,
        closed_loop: bool = False,
    ) -> None:
        """Fit the limits of the goal space on unsteered plans and logs of tuning moments.

        Args:
            planner: What is steered.
            moments: Where.
            facts: What to state beside what is found here.
            batch_size: Rows planned at once.
            closed_loop: The planner drives, planning anew every 0.5 s; otherwise one plan is
                driven.
        """
        self._planner, self._moments = planner, moments
        self._batch, self._closed = batch_size, closed_loop
        self._numbers = moments.world.sample_ids.numpy()
        self._splits = np.array(moments.splits)
        self._steered: dict[Chain, SteeredPlanner] = {}
        self._checkpoint_hash: str | None = facts.get("inputs", {}).get("checkpoint")
        self.quality_names = QUALITY
        limits = self._limits()
        self.space: GoalSpace = plan_space(limits)
        self._columns = columns_of(self.space.names)
        self.facts = {
            **facts,
            "contexts": {split: len(self.contexts(split)) for split in (TUNING, REPORTED)},
            "goals_without_limits": [name for name in GOAL_NAMES if name not in limits],
            "closed_loop": closed_loop,
            "candidates_in_the_pool": len(POOL_STYLES) * len(planner.anchors),
            "noise_moves_candidates_m": self._moved_by_noise(),
        }

    def contexts(self, split: str) -> Int[np.ndarray, " context"]:
        """Samples of a split."""
        return self._numbers[self._splits == split]

    def groups(self, contexts: Int[np.ndarray, " row"]) -> Sequence[str]:
        """Type of scene."""
        return [self._moments.groups[row] for row in self._rows(contexts).tolist()]

    @torch.inference_mode()
    def generate(
        self,
        contexts: Int[np.ndarray, " row"],
        goals: Goals | None,
        chain: Chain | None,
        *,
        seed: int = 0,
    ) -> Outcome:
        """Plans, driven and measured.

        Raises:
            InputError: If the chain cannot steer plans.
            ValueError: If a context is not known.
        """
        rows = self._rows(contexts)
        steered = None if chain is None or goals is None else self._opened(chain)
        parts: list[Measured] = []
        qualities: list[Mapping[str, Tensor]] = []
        seconds = 0.0
        for first in range(0, len(rows), self._batch):
            part = slice(first, first + self._batch)
            planner: Planner = self._planner
            if steered is not None and goals is not None:
                planner = AimedPlanner(steered, goals.rows(part))
            at = torch.from_numpy(rows[part])
            began = time.perf_counter()
            world, ride = self._driven(planner, at, seed)
            seconds += time.perf_counter() - began
            parts.append(driven_goals(world, one_candidate(ride)))
            qualities.append(self._quality(world, ride, at))
        raw = torch.cat([found.raw for found in parts])[:, 0, self._columns]
        mask = torch.cat([found.mask for found in parts])[:, 0, self._columns]
        return Outcome(
            raw=raw.double().numpy(),
            mask=mask.numpy(),
            quality={
                name: torch.cat([found[name] for found in qualities]).double().numpy()
                for name in QUALITY
            },
            generator_calls=self._calls(steered, goals),
            seconds=seconds / max(len(rows), 1),
        )

    @torch.inference_mode()
    def pool(
        self, contexts: Int[np.ndarray, " row"]
    ) -> tuple[Float[np.ndarray, "row candidate goal"], Bool[np.ndarray, "row candidate goal"]]:
        """Candidates in no style, both presets, fast and slow, near and far, all exaggerated.

        Those that the safety gate keeps out are not possible: the first that it admits stands in
        their place.
        """
        rows, inverse = np.unique(self._rows(contexts), return_inverse=True)
        found = [self._pool_of(int(row)) for row in rows]
        raw = torch.cat([one.raw for one in found])[..., self._columns].double().numpy()
        mask = torch.cat([one.mask for one in found])[..., self._columns].numpy()
        return raw[inverse], mask[inverse]

    def _pool_of(self, row: int) -> Measured:
        at = torch.full((len(POOL_STYLES),), row)
        styles = [asked_styles(name, None, [0]) for name in POOL_STYLES]
        style = StyleCondition(
            torch.cat([one.values for one in styles]), torch.cat([one.mask for one in styles])
        )
        scene = self._moments.scene.rows(at)
        found = guided_steps(self._planner, scene, style, weight=POOL_GUIDANCE)
        plans = self._planner.picked(scene, found.encoded, found.changes, found.logits, style)
        admitted = plans.scores.isfinite()
        own = torch.arange(plans.scores.shape[1]).expand_as(plans.scores)
        place = torch.where(admitted, own, admitted.to(torch.int8).argmax(1, keepdim=True))
        poses = plans.poses.take_along_dim(place[..., None, None], 1).flatten(0, 1)[None]
        world, scene = self._moments.world.rows(at[:1]), scene.rows(slice(0, 1))
        return driven_goals(world, driven_candidates(scene, poses))

    def _rows(self, contexts: Int[np.ndarray, " row"]) -> Int[np.ndarray, " row"]:
        place = np.searchsorted(self._numbers, contexts).clip(max=len(self._numbers) - 1)
        if (unknown := self._numbers[place] != contexts).any():
            raise ValueError(f"there is no context {contexts[unknown][0]}.")
        return place

    def _opened(self, chain: Chain) -> SteeredPlanner:
        if chain not in self._steered:
            self._steered[chain] = opened_chain(
                self._planner, chain, self.space, checkpoint_hash=self._checkpoint_hash
            )
        return self._steered[chain]

    def _calls(self, steered: SteeredPlanner | None, goals: Goals | None) -> float:
        """Per context, where a row that asks for nothing costs what the planner costs."""
        own = own_calls(self._planner)
        if steered is None or goals is None or steered.neutral:
            return float(own)
        share = goals.mask.any(1).double().mean().item()
        return share * steered.calls + (1 - share) * own

    def _driven(
        self, planner: Planner, rows: Int[Tensor, " row"], seed: int
    ) -> tuple[World, Motion]:
        world = self._moments.world.rows(rows)
        none = asked_styles("none", None, range(len(rows)))
        if not self._closed:
            scene = self._moments.scene.rows(rows)
            return world, tracked(scene, planner.plan(scene, none, seed=seed).best)
        found = roll_out(world, planner, none, duration_s=SCORED_S, seed=seed)
        happened = with_agents(
            world, found.agent_poses, found.agent_velocities_mps, found.agent_mask
        )
        return happened, found.ego

    def _quality(
        self, world: World, ride: Motion, rows: Int[Tensor, " row"]
    ) -> Mapping[str, Float[Tensor, " row"]]:
        reference = self._moments.gated_progress_m[rows]
        scores = pdm_score(
            world, one_candidate(ride), self._moments.area, reference_progress_m=reference
        )
        parts = {name: getattr(scores, name) for name in QUALITY[1:]} | {"pdms": scores.score}
        return {name: parts[name][:, 0] for name in QUALITY}

    @torch.inference_mode()
    def _limits(self) -> dict[str, tuple[float, float]]:
        raw, mask = [], []
        rows = np.flatnonzero(self._splits == TUNING)
        for first in range(0, len(rows), self._batch):
            at = torch.from_numpy(rows[first : first + self._batch])
            world, ride = self._driven(self._planner, at, 0)
            logged = logged_ride(self._moments.world.rows(at))
            for around, one in ((world, ride), (self._moments.world.rows(at), logged)):
                found = driven_goals(around, one_candidate(one))
                raw.append(found.raw[:, 0])
                mask.append(found.mask[:, 0])
        low, high = fitted_limits(torch.cat(raw), torch.cat(mask))
        return {
            name: (float(low[number]), float(high[number]))
            for number, name in enumerate(GOAL_NAMES)
            if low[number] < high[number]
        }

    @torch.inference_mode()
    def _moved_by_noise(self) -> float:
        """How far another seed moves candidates in the mean; particles need that to be far."""
        scene = self._moments.scene.rows(slice(0, self._batch))
        none = asked_styles("none", None, range(len(scene.ego_size_m)))
        one, other = (
            going_on(scene).poses(guided_steps(self._planner, scene, none, seed=seed).changes)
            for seed in (0, 1)
        )
        return round(float((one - other)[..., :2].norm(dim=-1).mean()), 6)


class Plans(SteerableSource):
    """A diffusion planner steered in moments of logs that it was not trained on."""

    def __init__(
        self,
        *,
        checkpoint: Path,
        scenes: Path | None = None,
        styles: Path | None = None,
        contexts: int = CONTEXTS,
        batch_size: int = 64,
        closed_loop: bool = False,
        safety_gate: float | None = None,
    ) -> None:
        """Say what to open.

        Args:
            checkpoint: A checkpoint of a diffusion planner, or a run whose best one is taken.
            scenes: Artifact `scenes`; by default the one it was trained on.
            styles: Artifact `styles`; likewise.
            contexts: Most moments of each split, evenly spread over its samples.
            batch_size: Rows planned at once.
            closed_loop: The planner drives, planning anew every 0.5 s; otherwise one plan is
                driven. About eight times as slow.
            safety_gate: Of the planner's selection; by default its own.

        Raises:
            ValueError: If a number is out of range.
        """
        if safety_gate is not None and not 0 <= safety_gate <= 1:
            raise ValueError(f"safety_gate must be from 0 to 1, got {safety_gate:g}.")
        for name, number in (("contexts", contexts), ("batch_size", batch_size)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}.")
        self._checkpoint, self._scenes, self._styles = checkpoint, scenes, styles
        self._contexts, self._batch, self._closed = contexts, batch_size, closed_loop
        self._changes = {} if safety_gate is None else {"selection.safety_gate": safety_gate}

    def open(self) -> SteerablePlans:
        """Read planner and scenes, and plan once without steering.

        Raises:
            InputError: If the planner is no diffusion planner, or a split has no moment whose log
                goes on for four seconds, or splits share a recording.
            ArtifactMismatch: If an artifact is damaged or of another kind.
        """
        loaded = load_planner(self._checkpoint, changes=self._changes)
        if not isinstance(loaded.planner, DiffusionPlanner):
            raise InputError(
                f"{loaded.folder} holds a {type(loaded.planner).__name__}, which cannot be steered."
            )
        scenes = read_artifact(self._scenes or loaded.paths["scenes"], kind="scenes")
        styles = read_artifact(self._styles or loaded.paths["styles"], kind="styles")
        moments = read_moments(scenes, styles, (TUNING, REPORTED), self._contexts)
        return SteerablePlans(
            loaded.planner,
            moments,
            _facts(loaded, scenes, styles) | {"safety_gate": loaded.planner.selection.safety_gate},
            batch_size=self._batch,
            closed_loop=self._closed,
        )


def _facts(loaded: LoadedPlanner, scenes: Artifact, styles: Artifact) -> dict[str, Any]:
    return {
        "planner": type(loaded.planner).__name__,
        "inputs": {
            "checkpoint": loaded.content_hash,
            "scenes": scenes.content_hash,
            "styles": styles.content_hash,
        },
        "simulated": bool(scenes.table(SCENES)["simulated"].all()),
    }
