"""Plans and rides in a scene, in the styles a request asks for, with their scores.

The styles of one request are one batch. Requests are not put together: a batch of another size may
round its numbers another way, and an answer would then depend on who else asked at that moment.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.evaluation.conditions import asked_styles
from driving.evaluation.drive import HISTORY_S, LOOK_FURTHER_S, SCORED_S, ride_size, with_agents
from driving.evaluation.gate import SafetyGate
from driving.evaluation.judge import (
    beginning,
    one_candidate,
    reference_progress,
    tracked,
    whole_ride_safety,
)
from driving.evaluation.planners import NamedPlanner
from driving.metrics.drivable_area import DrivableArea
from driving.metrics.score import Scores, pdm_score
from driving.planner.pdm import Pdm
from driving.planner.planner import PLAN_STEP_S, Planner, PlannerInput, StyleCondition
from driving.planner_input import planner_input
from driving.scene_store import SceneStore
from driving.served_scenes import ServedScenes
from driving.served_search import style_numbers_asked
from driving.served_steering import PlanSteering, Together, check_steering, planned_together
from driving.served_view import agent_tracks, driven, planned
from driving.simulation.kinematics import STEP_S
from driving.simulation.rollout import roll_out
from driving.simulation.state import Motion
from driving.world import World
from personalize.api.messages import (
    PlanAnswer,
    PlanRequest,
    Ride,
    Steered,
    StyleAsked,
    StylePlanned,
)
from personalize.api.ports import Answers, RequestRefused
from personalize.api.steered import reached

WORLDS_KEPT = 64
PARTS = (
    "no_collision",
    "drivable_area",
    "driving_direction",
    "time_to_collision",
    "comfort",
    "progress",
    "progress_m",
)


@dataclass(frozen=True)
class _Place:
    """Where a request plans.

    Attributes:
        world: Of this one sample, with future enough for the ride.
        gated_progress_m: What progress is a share of: PDM's over four seconds.
    """

    world: World
    gated_progress_m: Float[Tensor, " one"]


class Driver:
    """Plans in scenes, and drives on where it is asked to.

    Args:
        store: The scenes.
        scenes: Which of their moments are served.
        named: The planner.
        gate: In closed loop, candidates that seem unsafe are passed over.
        reactive: In closed loop, other vehicles react instead of repeating the log.
        steering: What steers; None where nothing does.
    """

    def __init__(
        self,
        store: SceneStore,
        scenes: ServedScenes,
        named: NamedPlanner,
        *,
        gate: bool,
        reactive: bool,
        steering: PlanSteering | None = None,
    ) -> None:
        if named.planner is None:
            raise ValueError("named must hold a planner, got the log.")
        self.scenes, self.planner, self.name = scenes, named.planner, named.name
        self.area: DrivableArea = store.drivable_area()
        self.reactive, self.steering = reactive, steering
        self._gate = SafetyGate(self.area) if gate else None
        self._store = store
        self._proposer: Planner = Pdm()
        self._places: OrderedDict[tuple[int, float], _Place] = OrderedDict()

    def plan(self, requests: Sequence[PlanRequest]) -> Answers[PlanAnswer]:
        """A plan per style of every request."""
        answers: Answers[PlanAnswer] = []
        for request in requests:
            try:
                answers.append(self._planned(request))
            except RequestRefused as refused:
                answers.append(refused)
        return answers

    def world(self, row: int, *, ride_s: float = SCORED_S) -> World:
        """What surrounds one sample, for as long as a ride."""
        store = replace(self._store, size=ride_size(ride_s))
        future_s = ride_s + LOOK_FURTHER_S
        return store.world(self.scenes.sample(row), history_s=HISTORY_S, future_s=future_s)

    def _place(self, row: int, ride_s: float) -> _Place:
        """A world and its yardstick; the latest are kept."""
        key = row, ride_s
        if key in self._places:
            self._places.move_to_end(key)
            return self._places[key]
        world = self.world(row, ride_s=ride_s)
        scene = planner_input(world, world.now)
        gated = reference_progress(world, scene, self.area, self._proposer)[0]
        self._places[key] = _Place(world, gated)
        if len(self._places) > WORLDS_KEPT:
            self._places.popitem(last=False)
        return self._places[key]

    @torch.inference_mode()
    def _planned(self, request: PlanRequest) -> PlanAnswer:
        row = self.scenes.row(request.scene)
        style = condition_of(request.styles)
        check_steering(request.styles, self.steering)
        place = self._place(row, SCORED_S)
        world = _repeated(place.world, len(request.styles))
        scene = planner_input(world, world.now)
        best = self._best(request, scene, style)
        reference = place.gated_progress_m.expand(len(best))
        ride = one_candidate(tracked(scene, best))
        scores = _rows(pdm_score(world, ride, self.area, reference_progress_m=reference))
        rides = self._rides(request, row, style) if request.closed_loop else [None] * len(best)
        steered = self._reached(request, world, scene, style, best)
        return PlanAnswer(
            scene=self.scenes.ids[row],
            planner=self.name,
            styles=[
                StylePlanned(
                    name=asked.name,
                    style=_by_name(style, number),
                    plan=planned(best[number]),
                    sub_scores=scores[number],
                    ride=rides[number],
                    steered=steered.get(number),
                )
                for number, asked in enumerate(request.styles)
            ],
        )

    def _together(self, request: PlanRequest) -> list[Together]:
        return planned_together(request.styles, self.planner, self.steering)

    def _best(
        self, request: PlanRequest, scene: PlannerInput, style: StyleCondition
    ) -> Float[Tensor, "style time 3"]:
        """The plan of every style."""
        parts = self._together(request)
        if len(parts) == 1:
            return parts[0].planner.plan(scene, style, seed=request.seed).best
        found = [
            one.planner.plan(scene.rows(one.rows), style.rows(one.rows), seed=request.seed).best
            for one in parts
        ]
        return torch.cat(found)[torch.cat([one.rows for one in parts]).argsort()]

    def _reached(
        self,
        request: PlanRequest,
        world: World,
        scene: PlannerInput,
        style: StyleCondition,
        best: Float[Tensor, "style time 3"],
    ) -> dict[int, Steered]:
        """What steered styles reached, by place, beside the plans without steering."""
        asked = {n: one.steering for n, one in enumerate(request.styles) if one.steering}
        if self.steering is None or not asked:
            return {}
        rows = torch.tensor(list(asked))
        world, scene, style = world.rows(rows), scene.rows(rows), style.rows(rows)
        plain = self.planner.plan(scene, style, seed=request.seed).best
        without, found = (
            self.steering.measured(world, scene, plans) for plans in (plain, best[rows])
        )
        return {
            number: reached(asked[number], self.steering.space, without[row], found[row])
            for row, number in enumerate(asked)
        }

    def _rides(self, request: PlanRequest, row: int, style: StyleCondition) -> list[Ride | None]:
        """Closed-loop rides; shorter ones are driven for the four seconds that scores need."""
        ride_s = max(SCORED_S, math.ceil(request.ride_s / PLAN_STEP_S) * PLAN_STEP_S)
        place = self._place(row, ride_s)
        self._check_log(place.world, request, ride_s)
        rides: dict[int, Ride] = {}
        for one in self._together(request):
            driven_on = self._ridden(request, place, ride_s, style.rows(one.rows), one.planner)
            rides |= dict(zip(one.rows.tolist(), driven_on, strict=True))
        return [rides[number] for number in range(len(style.values))]

    def _ridden(
        self,
        request: PlanRequest,
        place: _Place,
        ride_s: float,
        style: StyleCondition,
        planner: Planner,
    ) -> list[Ride]:
        world = _repeated(place.world, len(style.values))
        found = roll_out(
            world,
            planner,
            style,
            duration_s=ride_s,
            reactive=self.reactive,
            seed=request.seed,
            gate=self._gate,
        )
        happened = with_agents(
            world, found.agent_poses, found.agent_velocities_mps, found.agent_mask
        )
        scores = self._scored(happened, found.ego, place)
        steps = round(request.ride_s / STEP_S)
        return [
            Ride(
                ego=driven(found.ego, number, steps),
                agents=agent_tracks(happened, number, steps),
                sub_scores=scores[number],
            )
            for number in range(len(style.values))
        ]

    def _check_log(self, world: World, request: PlanRequest, ride_s: float) -> None:
        """Others repeat the log and lights follow it: there is no ride beyond it."""
        logged = world.ego_mask[0, world.now + 1 : world.now + 1 + round(ride_s / STEP_S)]
        if not bool(logged.all()):
            known_s = int(logged.long().cumprod(0).sum()) * STEP_S
            raise RequestRefused(
                f"The log of {request.scene!r} goes on for {known_s:.1f} s only; ask for a shorter "
                "ride_s.",
                param="ride_s",
            )

    def _scored(self, world: World, ride: Motion, place: _Place) -> list[dict[str, float]]:
        """Scores of the first four seconds; the two gates of the whole ride too."""
        scores = pdm_score(
            world,
            one_candidate(beginning(ride)),
            self.area,
            reference_progress_m=place.gated_progress_m.expand(len(ride.poses)),
        )
        whole = whole_ride_safety(world, ride, self.area)
        return [
            parts | {name: round(float(values[row, 0]), 4) for name, values in whole.items()}
            for row, parts in enumerate(_rows(scores))
        ]


def condition_of(styles: Sequence[StyleAsked]) -> StyleCondition:
    """What is asked of the planner, a row per style.

    Raises:
        RequestRefused: If there is no such dimension.
    """
    rows = []
    for asked in styles:
        condition = asked_styles(asked.preset or "none", None, [0])
        if asked.style is not None:
            values, mask = style_numbers_asked(asked.style, param="styles")
            condition = StyleCondition(torch.from_numpy(values)[None], torch.from_numpy(mask)[None])
        rows.append(condition)
    return StyleCondition(
        torch.cat([row.values for row in rows]), torch.cat([row.mask for row in rows])
    )


def _by_name(style: StyleCondition, row: int) -> dict[str, float]:
    return {
        name: round(float(value), 6)
        for name, value, asked in zip(
            STYLE_DIMENSIONS, style.values[row], style.mask[row], strict=True
        )
        if asked
    }


def _repeated(world: World, count: int) -> World:
    return world.rows(torch.zeros(count, dtype=torch.long))


def _rows(scores: Scores) -> list[dict[str, float]]:
    """The score and its parts, as numbers, ride by ride."""
    parts: Mapping[str, Tensor] = {
        "pdms": scores.score,
        **{name: getattr(scores, name) for name in PARTS},
    }
    return [
        {name: round(float(values[row, 0]), 4) for name, values in parts.items()}
        for row in range(len(scores.score))
    ]
