"""`driving critic`: a critic of plans, learnt from what was driven.

A state is what a trained planner's encoder makes of a scene, an action the plan as changes to going
on as now, a reward how the driver fared until the next sample, and that is the next state.
"""

import sys
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_prep.artifact import read_artifact
from data_prep.errors import InputError
from driving.critic_reader import critic_context, plan_features
from driving.evaluation.conditions import asked_styles
from driving.evaluation.judge import logged_ride, whole_ride_safety
from driving.evaluation.teach import LEAST_SPOILED, MOST_SPOILED, spoiled_drives
from driving.goals import driven_candidates
from driving.load import LoadedPlanner, load_planner
from driving.metrics.drivable_area import DrivableArea
from driving.metrics.score import pdm_score
from driving.planner.learned import EncodesScenes
from driving.planner.planner import Planner, PlannerInput, StyleCondition
from driving.planner_input import planner_input
from driving.planning_rows import HISTORY_S, logged_future
from driving.scene_store import SceneStore
from driving.simulation.frames import unwrapped
from driving.simulation.state import Motion
from driving.style.tables import SAMPLES
from driving.world import World
from personalize.rewards.critic import Critic, CriticContext, Transitions, transitions_along
from personalize.rewards.critic_training import CriticTraining, fitted_critic
from personalize.rewards.stored_critic import write_critic

FUTURE_S = 4.0
WORLDS_AT_ONCE = 64
SPOILED = 8
SAFE_DECELERATION_MPS2 = 4.0


@dataclass(frozen=True)
class DrivingRewards:
    """What a driver's time is worth, per frame and averaged: at most `progress`.

    Attributes:
        progress: Of driving at `speed_mps` or faster.
        speed_mps: Speed from which more is worth no more.
        comfort: Lost where the acceleration, along and across together, is 4 m/s2 or more; its
            square below.
        collision: Lost by a collision at fault, and half of it by leaving the road.
    """

    progress: float = 1.0
    speed_mps: float = 15.0
    comfort: float = 0.5
    collision: float = 2.0

    def __call__(self, world: World, ride: Motion, area: DrivableArea) -> Float[Tensor, " batch"]:
        """The reward of each ride; their dimensions are [batch, step]."""
        speed = ride.speed_mps
        (turning,) = torch.gradient(unwrapped(ride.poses[..., 2]), spacing=world.step_s, dim=-1)
        across = speed * turning
        strain = (ride.acceleration_mps2.square() + across.square()) / SAFE_DECELERATION_MPS2**2
        safe = whole_ride_safety(world, ride, area)
        lost = 1 - safe["no_collision_ride"][:, 0] + 0.5 * (1 - safe["drivable_area_ride"][:, 0])
        return (
            self.progress * (speed / self.speed_mps).clamp(0, 1).mean(-1)
            - self.comfort * strain.clamp_max(1).mean(-1)
            - self.collision * lost.clamp_max(1)
        )


@dataclass(frozen=True)
class Driven:
    """Logged samples, in the order of driver and time.

    Attributes:
        state: Of the scene.
        preference: Of the style asked for.
        action: What was driven.
        reward: Until the next sample.
        candidates: What the planner would have driven, then what was spoiled on purpose.
    """

    state: Float[Tensor, "row state"]
    preference: Float[Tensor, "row preference"]
    action: Float[Tensor, "row action"]
    reward: Float[Tensor, " row"]
    candidates: Float[Tensor, "row candidate action"]


def write_driving_critic(  # noqa: PLR0913  (one parameter per option of the command)
    *,
    checkpoint: Path,
    out: Path,
    condition: str = "before",
    maximum_samples: int | None = None,
    candidate_weight: float = 1.0,
    steps: int = 1500,
    width: int = 128,
    discount: float = 0.9,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Write the artifact `critic` of a trained planner.

    Its notes say what it is worth on samples of the test split: how often the log is worth more
    than a spoiled drive, and the mean PDM score of the planner's own choice, of the critic's among
    the planner's candidates, and of the best of them.

    Args:
        checkpoint: A run, whose best one is taken, or a checkpoint.
        out: Folder to write.
        condition: Style beside every sample, of the run's style vectors; `none` reads no style.
        maximum_samples: Most samples of a split, driver by driver; None takes all.
        candidate_weight: Of the candidates' term; 0 leaves it out.
        steps: Gradient steps.
        width: Of the critic's hidden layers.
        discount: What a reward one sample later counts.
        seed: Of everything that is drawn.
        overwrite: Replace what is there.

    Raises:
        InputError: If the planner encodes no scenes, a split is empty, or a number is out of range.
        ArtifactMismatch: If an artifact is damaged or does not fit.
    """
    if steps < 1 or width < 1 or not 0 <= discount < 1:
        raise InputError(
            "--steps and --width must be at least 1 and --discount from 0 to below 1, got "
            f"{steps}, {width} and {discount:g}."
        )
    loaded = load_planner(checkpoint)
    source = _Source.of(loaded, condition, maximum_samples)
    train, test = source.samples("train"), source.samples("test")
    stride = _stride(train)
    log = driven(source, train, stride=stride, seed=seed)
    data = transitions(log, _ended(train, stride), discount=discount)
    settings = CriticTraining(steps=steps, candidate_weight=candidate_weight, seed=seed)
    critic, losses = fitted_critic(data, settings, width=width, discount=discount)
    facts = losses | choice_facts(source, critic, test, seed=seed)
    write_critic(
        out,
        critic,
        command="driving critic",
        configuration={
            "condition": condition,
            "maximum_samples": maximum_samples,
            "candidate_weight": candidate_weight,
            "steps": steps,
            "width": width,
            "discount": discount,
            "seed": seed,
        },
        inputs={"checkpoint": loaded.content_hash, "scenes": source.store.content_hash},
        facts={"rows": len(data), **{n: round(float(v), 4) for n, v in facts.items()}},
        overwrite=overwrite,
    )
    sys.stderr.write(
        f"{len(data):,} samples: PDM score {facts['pdms_planner']:.3f} as planned, "
        f"{facts['pdms_critic']:.3f} as the critic chooses: {out}\n"
    )


@dataclass(frozen=True)
class _Source:
    """The artifacts of a planner's run, opened."""

    planner: Planner
    encoder: EncodesScenes
    store: SceneStore
    area: DrivableArea
    table: pl.DataFrame
    vectors: dict[str, np.ndarray] | None
    condition: str
    maximum_samples: int | None

    @classmethod
    def of(cls, loaded: LoadedPlanner, condition: str, maximum_samples: int | None) -> "_Source":
        if not isinstance(loaded.planner, EncodesScenes):
            raise InputError(
                f"{loaded.folder} holds {type(loaded.planner).__name__}, which encodes no scenes; "
                "take a DiffusionPlanner."
            )
        store = SceneStore.read(loaded.paths["scenes"])
        path = loaded.paths.get("style_vectors")
        vectors = (
            None
            if path is None or condition == "none"
            else read_artifact(path, kind="style_vectors").arrays("style_vectors")
        )
        table = read_artifact(loaded.paths["styles"], kind="styles").table(SAMPLES)
        return cls(
            loaded.planner, loaded.planner, store, store.drivable_area(), table, vectors,
            condition, maximum_samples,
        )  # fmt: skip

    def samples(self, split: str) -> pl.DataFrame:
        """The samples of a split by driver and time, the first drivers' ones.

        Raises:
            InputError: If there is none.
        """
        found = self.table.filter(pl.col("split") == split).sort("driver_id", "step")
        if found.is_empty():
            raise InputError(f"There is no sample of the split {split} to learn a critic from.")
        return found if self.maximum_samples is None else found.head(self.maximum_samples)

    def world(self, samples: pl.DataFrame) -> tuple[World, PlannerInput, StyleCondition]:
        """The surroundings of some samples, what a planner sees of them, and the style asked."""
        world = self.store.world(samples, history_s=HISTORY_S, future_s=FUTURE_S)
        style = asked_styles(self.condition, self.vectors, samples["sample_id"].to_numpy())
        return world, planner_input(world, world.now), style


def driven(source: _Source, samples: pl.DataFrame, *, stride: int, seed: int) -> Driven:
    """What was driven in some samples, with what else could have been.

    Args:
        source: The artifacts.
        samples: Rows of the samples table.
        stride: Steps from a sample to the driver's next one.
        seed: Of what is spoiled.
    """
    draw = torch.Generator().manual_seed(seed)
    steps = min(stride, round(FUTURE_S / source.store.step_s))
    parts = []
    for start in range(0, samples.height, WORLDS_AT_ONCE):
        world, scene, style = source.world(samples[start : start + WORLDS_AT_ONCE])
        with torch.inference_mode():
            context = critic_context(source.encoder, scene, style)
            future, _ = logged_future(world)
            plans = source.planner.plan(scene, style).poses
            others = torch.cat((plans, spoiled_drives(scene, future, _spoiling(scene, draw))), 1)
            parts.append(
                Driven(
                    context.state,
                    context.preference,
                    plan_features(scene, future[:, None])[:, 0].float(),
                    DrivingRewards()(world, logged_ride(world, steps=steps), source.area).float(),
                    plan_features(scene, others).float(),
                )
            )
    return Driven(
        *(
            torch.cat([getattr(part, field.name) for part in parts]).clone()
            for field in fields(Driven)
        )
    )


def transitions(log: Driven, ended: Bool[Tensor, " row"], *, discount: float) -> Transitions:
    """From every sample to the same driver's next one."""
    return transitions_along(
        CriticContext(log.state, log.preference),
        log.action,
        log.reward,
        ended,
        log.candidates,
        discount=discount,
    )


@torch.no_grad()
def choice_facts(
    source: _Source, critic: Critic, samples: pl.DataFrame, *, seed: int, count: int = 128
) -> dict[str, float]:
    """What the critic's choices are worth in some scenes it has not seen, evenly spread.

    Args:
        source: The artifacts.
        critic: The critic.
        samples: Rows of the samples table.
        seed: Of what is spoiled.
        count: Most samples.
    """
    rows = np.unique(np.linspace(0, samples.height - 1, count).round().astype(np.int64))
    draw = torch.Generator().manual_seed(seed + 1)
    columns: dict[str, list[Tensor]] = {}
    for start in range(0, len(rows), WORLDS_AT_ONCE):
        world, scene, style = source.world(samples[rows[start : start + WORLDS_AT_ONCE]])
        context = critic_context(source.encoder, scene, style)
        plans = source.planner.plan(scene, style)
        score = pdm_score(world, driven_candidates(scene, plans.poses), source.area).score.float()
        worth = critic(plan_features(scene, plans.poses).float(), context)
        future, _ = logged_future(world)
        pair = torch.cat(
            (future[:, None], spoiled_drives(scene, future, _spoiling(scene, draw))), 1
        )
        pair_worth = critic(plan_features(scene, pair).float(), context)
        found = {
            "pdms_planner": _chosen(score, plans.scores.argmax(1)),
            "pdms_critic": _chosen(score, worth.argmax(1)),
            "pdms_mean": score.mean(1),
            "pdms_best": score.amax(1),
            "log_above_spoiled": (pair_worth[:, :1] > pair_worth[:, 1:]).float().mean(1),
        }
        for name, values in found.items():
            columns.setdefault(name, []).append(values)
    return {name: float(torch.cat(values).mean()) for name, values in columns.items()}


def _chosen(
    values: Float[Tensor, "batch candidate"], number: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    return values.gather(1, number[:, None])[:, 0]


def _spoiling(scene: PlannerInput, draw: torch.Generator) -> Float[Tensor, "batch spoiled 2"]:
    low, high = torch.tensor(LEAST_SPOILED), torch.tensor(MOST_SPOILED)
    return low + (high - low) * torch.rand(len(scene.ego_history), SPOILED, 2, generator=draw)


def _stride(samples: pl.DataFrame) -> int:
    """Steps between two samples of a driver: the least one met; 1 where none has two."""
    gaps = samples.select(pl.col("step").diff().over("driver_id"))["step"].drop_nulls()
    return int(gaps.min() or 1)  # pyright: ignore[reportArgumentType]


def _ended(samples: pl.DataFrame, stride: int) -> Bool[Tensor, " row"]:
    """Where the driver's next sample is not the next row."""
    driver, step = (samples[name].to_numpy() for name in ("driver_id", "step"))
    goes_on = (driver[1:] == driver[:-1]) & (step[1:] - step[:-1] == stride)
    return torch.from_numpy(np.append(~goes_on, values=True))
