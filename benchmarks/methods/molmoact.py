"""Does the planner follow an edited trace? Beside style, inpainting and the nearest candidate.

A trained planner is gone on with for a few hundred steps on simulated traffic: without traces, with
traces of what was driven, and with some of the futures edited too; or not gone on with at all. Its
own plan is drawn as a trace of five way-points, edited (1 m to either side by and by within two
seconds, or a scale of 0.8), and asked for. Distances are from plan to way-points, in scenes where
the plan is longer than 15 m.

Shown if for every edit the median distance is below 0.3 m and every baseline lies further off (the
interval of the paired difference excludes 0), and without a trace the planner is no worse than the
one gone on with without: the interval of the difference in average displacement, over scenes, holds
0. Inpainting to the last step meets way-points by force and is no such baseline: its rides are told
by their PDM score. Beside distances stand the side effects: what a plan ends beside its trace
lengthwise (along) and sideways (aside).
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from data_prep.artifact import read_artifact
from driving.data import DrivingDataModule
from driving.evaluation.judge import logged_ride, tracked
from driving.load import load_planner
from driving.metrics.score import pdm_score
from driving.module import average_displacement
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.diffusion_sampler import DiffusionSampler
from driving.planner.going_on import going_on
from driving.planner.inpainting import inpainted
from driving.planner.planner import PlannerInput, StyleCondition
from driving.planner.trace import Edit, Scale, Shift, trace_of
from driving.planner.trace_condition import (
    TraceCondition,
    TraceTraining,
    distance_to_trace,
    trace_changes,
    trace_condition,
)
from driving.planner_input import planner_input
from driving.planning_rows import logged_future
from driving.scene_store import SceneStore
from driving.simulation.state import Motion
from driving.style.tables import SAMPLES
from personalize.evaluation.intervals import bootstrap_interval
from personalize.learning_rate import warm_up_cosine

EDITS: dict[str, Edit] = {"1 m left": Shift(1.0), "1 m right": Shift(-1.0), "scale 0.8": Scale(0.8)}
WITHOUT, UNTRAINED = "without", "untrained"
TRAININGS: dict[str, TraceTraining | None] = {
    WITHOUT: None,
    UNTRAINED: TraceTraining(),
    "driven": TraceTraining(edited=0.0),
    "edited": TraceTraining(),
}
FOLLOWED_M, MOVING_M = 0.3, 15.0
SPEED_STYLES = (-1.0, -0.5, 0.0, 0.5, 1.0)
CONDITION, FORCED = "condition", "inpainting by force"
MEASURED = ("distance_m", "along_m", "aside_m", "pdms")
Row = dict[str, Any]


@dataclass(frozen=True)
class Evaluated:
    """Test scenes with what is needed to measure a plan."""

    scene: PlannerInput
    future: Tensor
    future_mask: Tensor
    score: Callable[[list[Tensor]], Tensor]

    def style(self, speed: float | None = None) -> StyleCondition:
        """None, or one that asks for a speed."""
        values = torch.zeros(len(self.future), 8)
        mask = torch.zeros(values.shape, dtype=torch.bool)
        if speed is not None:
            values[:, 0], mask[:, 0] = speed, True
        return StyleCondition(values, mask)


def main() -> None:
    """Train, measure, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/demo-driving"), help="driving demo")
    parser.add_argument("--steps", type=int, default=150, help="training steps of 64 rows")
    parser.add_argument("--samples", type=int, default=150, help="test samples")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trainings", nargs="+", choices=TRAININGS, default=list(TRAININGS))
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    data = training_data(options.run)
    test = evaluated(options.run, options.samples)
    rows, quality = [], []
    for seed in options.seeds:
        if rows:
            report(options, rows, quality)
        for name in options.trainings:
            if name == UNTRAINED and seed != options.seeds[0]:
                continue
            start = time.process_time()
            steps = 0 if name == UNTRAINED else options.steps
            planner = trained(options.run, data, TRAININGS[name], steps=steps, seed=seed)
            taken = time.process_time() - start
            about = {"seed": seed, "training": name}
            quality.append({**about, "train_s": taken, **without_trace(planner, test)})
            rows += [{**about, **row} for row in with_trace(planner, test)]
            print(seed, name, f"trained in {taken:.0f} s", flush=True)
    report(options, rows, quality)
    if options.json:
        print(json.dumps(summed_up(options, rows, quality)))


def report(options: argparse.Namespace, rows: list[Row], quality: list[Row]) -> None:
    """Print both tables and what follows from them."""
    print("seed  training   ade m  best m   pdms  (without a trace)")
    for row in quality:
        print(f"{row['seed']:<5} {row['training']:8} {row['ade_m'].mean():7.3f} "
              f"{row['best_m'].mean():7.3f} {row['pdms']:6.3f}")  # fmt: skip
    table = summary(rows)
    print("edit       training method               median m  followed  along m  aside m   pdms")
    for row in table:
        print(f"{row['edit']:10} {row['training']:8} {row['method']:20} {row['median_m']:8.2f} "
              f"{row['followed']:9.2f} {row['along_m']:8.2f} {row['aside_m']:8.2f} "
              f"{row['pdms']:6.3f}")  # fmt: skip
    verdicts = {
        name: verdict(name, table, quality) for name in options.trainings if name != WITHOUT
    }
    for name, found in verdicts.items():
        print(name, found)


def summed_up(options: argparse.Namespace, rows: list[Row], quality: list[Row]) -> Row:
    """What `--json` ends with."""
    table = summary(rows)
    verdicts = {
        name: verdict(name, table, quality) for name in options.trainings if name != WITHOUT
    }
    arrays = ("ade_m", "best_m")
    return {
        "seeds": options.seeds, "steps": options.steps, "samples": options.samples,
        "quality": [{**row, **{name: float(row[name].mean()) for name in arrays}}
                    for row in quality],
        "table": table, "verdicts": verdicts,
        "criterion": " ".join((__doc__ or "").split("\n\n")[2].split()),
        "shown": any(found["shown"] for found in verdicts.values()),
    }  # fmt: skip


def training_data(run: Path) -> DrivingDataModule:
    """The demo's training rows."""
    paths = (run / name for name in ("scenes", "styles", "style_vectors", "teacher"))
    data = DrivingDataModule(*paths, batch_size=64)
    data.setup("fit")
    return data


def trained(
    run: Path, data: DrivingDataModule, training: TraceTraining | None, *, steps: int, seed: int
) -> DiffusionPlanner:
    """The demo's planner, gone on with for some steps."""
    torch.manual_seed(seed)
    planner = DiffusionPlanner(teacher_share=0.6, trace=training)
    old = load_planner(run / "fit/diffusion").planner
    planner.load_state_dict(old.state_dict(), strict=False)
    planner.train()
    optimizer = torch.optim.AdamW(planner.parameters(), lr=1e-3, weight_decay=0.01)
    done = 0
    while done < steps:
        for batch in data.train_dataloader():
            share = warm_up_cosine(done, warm_up_steps=30, total_steps=steps, final_share=0.0)
            optimizer.param_groups[0]["lr"] = 1e-3 * share
            optimizer.zero_grad()
            planner.loss(batch)["loss"].backward()
            torch.nn.utils.clip_grad_norm_(planner.parameters(), 1.0)
            optimizer.step()
            done += 1
            if done == steps:
                break
    return planner.eval()


def evaluated(run: Path, count: int) -> Evaluated:
    """Evenly spread test samples."""
    samples = read_artifact(run / "styles", kind="styles").table(SAMPLES)
    samples = samples.filter(pl.col("split") == "test")
    places = np.linspace(0, samples.height - 1, count).round().astype(np.int64)
    store = SceneStore.read(run / "scenes")
    world = store.world(samples[places], history_s=1.0, future_s=5.2)
    scene, area = planner_input(world, world.now), store.drivable_area()

    def score(plans: list[Tensor]) -> Tensor:
        rides = [*(tracked(scene, plan) for plan in plans), logged_ride(world)]
        parts = ([getattr(ride, name) for ride in rides] for name in Motion.__dataclass_fields__)
        motions = Motion(*(torch.stack(part, 1) for part in parts))
        return pdm_score(world, motions, area).score[:, :-1]

    return Evaluated(scene, *logged_future(world), score)


def without_trace(planner: DiffusionPlanner, test: Evaluated) -> Row:
    """How good it is without a trace and without a style."""
    plans = planner.plan(test.scene, test.style())
    whole = test.future_mask.all(-1)
    chosen = average_displacement(plans.best[:, None], test.future, test.future_mask)[:, 0]
    every = average_displacement(plans.poses, test.future, test.future_mask).amin(1)
    return {
        "ade_m": chosen[whole].double().numpy(),
        "best_m": every[whole].double().numpy(),
        "pdms": float(test.score([plans.best]).mean()),
    }


def with_trace(planner: DiffusionPlanner, test: Evaluated) -> list[Row]:
    """A row per edit and method, with values per scene."""
    base = going_on(test.scene)
    own = planner.plan(test.scene, test.style()).best
    moving = (base.along_m + base.changes(own[:, None])[:, 0, :, 0])[:, -1] > MOVING_M
    found = []
    for edit, change in EDITS.items():
        trace = trace_condition(change(trace_of(own)))
        answers = {"its own plan": own, **baselines(planner, test, trace)}
        if planner.trace is not None:
            answers[CONDITION] = planner.plan(test.scene, test.style(), trace=trace).best
        scores = test.score(list(answers.values()))
        wanted = trace_changes(trace, base)[:, -1]
        for number, (method, best) in enumerate(answers.items()):
            beside = (base.changes(best[:, None])[:, 0, -1, :2] - wanted).abs()
            gaps = (best[..., :2] - trace.points).norm(dim=-1)[trace.mask].view(len(best), -1)
            values = (distance_to_trace(best[:, None], trace)[:, 0], beside[:, 0], beside[:, 1],
                      scores[:, number])  # fmt: skip
            row = dict(zip(MEASURED, (v[moving].double().numpy() for v in values), strict=True))
            found.append({"edit": edit, "method": method, "gaps": gaps[moving].numpy(), **row})
    return found


def baselines(
    planner: DiffusionPlanner, test: Evaluated, trace: TraceCondition
) -> dict[str, Tensor]:
    """Plans that try to follow a trace without having been trained to."""
    styled = [planner.plan(test.scene, test.style(speed)).best for speed in SPEED_STYLES]
    plans = planner.plan(test.scene, test.style())
    steps = DiffusionSampler(planner).steps
    return {
        "best of five styles": nearest(torch.stack(styled, 1), trace),
        "nearest candidate": nearest(plans.poses, trace, plans.scores),
        "inpainting": inpainting(planner, test, trace, held_steps=steps - 1),
        FORCED: inpainting(planner, test, trace, held_steps=steps),
    }


@torch.no_grad()
def inpainting(
    planner: DiffusionPlanner, test: Evaluated, trace: TraceCondition, *, held_steps: int
) -> Tensor:
    """Denoised in ten steps with the way-points held; the likeliest particle."""
    sampler = DiffusionSampler(planner)
    state = sampler.init(test.scene, test.style(), len(planner.anchors), seed=0)
    predict = inpainted(sampler.predict, trace, state.base, held_steps=held_steps)
    for number in range(sampler.steps):
        state = sampler.step(state, number, predict)
    poses = sampler.preview(state, sampler.steps - 1)
    return poses[torch.arange(len(poses)), state.log_weight.argmax(1)]


def nearest(poses: Tensor, trace: TraceCondition, scores: Tensor | None = None) -> Tensor:
    """The candidate that lies nearest to the trace, of those that count."""
    gaps = distance_to_trace(poses, trace)
    if scores is not None:
        gaps = gaps.masked_fill(scores.isneginf(), torch.inf)
    return poses[torch.arange(len(poses)), gaps.argmin(1)]


def summary(rows: list[Row]) -> list[Row]:
    """Rows over all seeds; how much further off a method is than the condition, paired."""
    keys = dict.fromkeys((row["edit"], row["training"], row["method"]) for row in rows)
    table = []
    for key in keys:
        mine = [row for row in rows if (row["edit"], row["training"], row["method"]) == key]
        joined = {name: np.concatenate([row[name] for row in mine]) for name in MEASURED}
        row: Row = dict(zip(("edit", "training", "method"), key, strict=True))
        row["median_m"] = float(np.median(np.concatenate([part["gaps"] for part in mine])))
        row["median_by_seed_m"] = [round(float(np.median(part["gaps"])), 3) for part in mine]
        row["followed"] = float((joined["distance_m"] < FOLLOWED_M).mean())
        row |= {name: float(values.mean()) for name, values in joined.items()}
        row["scenes"] = len(joined["pdms"])
        other = [part for part in rows if (part["edit"], part["training"], part["method"]) ==
                 (*key[:2], CONDITION)]  # fmt: skip
        if other and key[2] != CONDITION:
            further = joined["distance_m"] - np.concatenate([part["distance_m"] for part in other])
            interval = bootstrap_interval(further)
            row["further_m"] = [interval.mean, interval.low, interval.high]
        table.append(row)
    return table


def verdict(training: str, table: list[Row], quality: list[Row]) -> Row:
    """What the criterion says of a training."""
    mine = [row for row in table if row["training"] == training]
    follows = {row["edit"]: row["median_m"] < FOLLOWED_M for row in mine
               if row["method"] == CONDITION}  # fmt: skip
    nearer = all(
        row["further_m"][1] > 0 for row in mine if row["method"] not in (CONDITION, FORCED)
    )
    ades = {name: [row["ade_m"] for row in quality if row["training"] == name]
            for name in (training, WITHOUT)}  # fmt: skip
    worse = np.mean(ades[training], 0) - np.mean(ades[WITHOUT], 0)
    interval = bootstrap_interval(worse)
    equal = not interval.excludes(0.0) or interval.mean < 0
    return {
        "follows": follows, "nearer_than_baselines": nearer, "as_good_without_a_trace": equal,
        "worse_ade_m": [interval.mean, interval.low, interval.high],
        "shown": all(follows.values()) and nearer and equal,
    }  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
