"""Planner: training samples per second, milliseconds per plan, plans per second in batches.

On one thread, for the small configuration (16 agents of 11 steps, 32 lines of 10 points, 20
anchors); time is the processor time of this process, the best of several rounds. Where there is a
GPU the same in wall time, in 32 bit, in bf16 and compiled, and the large configuration too. The
scenes are random numbers: only their size matters here.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from driving.planner.batch import PlanningBatch
from driving.planner.diffusion import DiffusionPlanner
from driving.planner.planner import PLAN_STEPS, PlannerInput, StyleCondition
from driving.planner.style_injection import STYLE_COUNT

AGENTS, HISTORY, LINES, POINTS, PLACES = 16, 11, 32, 10, 80
SIZES = {
    "small": {},
    "large": {
        "width": 256, "heads": 8, "feedforward": 1024, "encoder_layers": 4, "decoder_layers": 4,
        "anchors": 64,
    },
}  # fmt: skip
BARS = {"training_samples_per_s": 250.0, "ms_per_plan": 8.0}


def main() -> None:
    """Measure, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=64, help="samples in a training step on a CPU")
    parser.add_argument("--rounds", type=int, default=8, help="rounds, of which the best counts")
    parser.add_argument("--device", help="only this torch device")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [] if options.device == "cuda" else [on_cpu(options.batch, options.rounds)]
    if options.device != "cpu" and torch.cuda.is_available():
        rows += on_gpu(options.rounds)
    for row in rows:
        print("  ".join(f"{name} {shown(value)}" for name, value in row.items()))
    print("bars: " + ", ".join(f"{name} {value:g}" for name, value in BARS.items()))
    if options.json:
        print(json.dumps({"rows": rows, "bars": BARS, "torch": torch.__version__}))


def on_cpu(batch_size: int, rounds: int) -> dict[str, object]:
    """The small configuration on one thread of a CPU."""
    planner = DiffusionPlanner()
    batch = random_batch(batch_size)
    one, many = batch.rows(slice(0, 1)), random_batch(256)
    step = trainer(planner, batch)
    training = best_seconds(step, rounds, time.process_time)
    planner.eval()
    single = best_seconds(lambda: planner.plan(one.scene, one.style), 5 * rounds, time.process_time)
    batched = best_seconds(lambda: planner.plan(many.scene, many.style), rounds, time.process_time)
    return {
        "device": "cpu, 1 thread",
        "size": "small",
        "weights": sum(weights.numel() for weights in planner.parameters()),
        "training_samples_per_s": batch_size / training,
        "ms_per_plan": 1e3 * single,
        "plans_per_s_in_batches": 256 / batched,
    }


def on_gpu(rounds: int) -> list[dict[str, object]]:
    """Both configurations on a GPU: 32 bit, bf16, bf16 compiled."""
    found = []
    for size, options in SIZES.items():
        batch = random_batch(1024).to("cuda")
        one = batch.rows(slice(0, 1))
        for name, half, compiled in (
            ("32 bit", False, False), ("bf16", True, False), ("bf16, compiled", True, True),
        ):  # fmt: skip
            planner = DiffusionPlanner(**options).cuda()
            with torch.autocast("cuda", torch.bfloat16, enabled=half):
                step = trainer(planner, batch, compiled=compiled, half=half)
                training = best_seconds(step, rounds, wall_seconds)
                planner.eval()
                plan = torch.compile(planner.plan) if compiled else planner.plan
                single = best_seconds(lambda: plan(one.scene, one.style), rounds, wall_seconds)  # noqa: B023
                batched = best_seconds(
                    lambda: planner.plan(batch.scene, batch.style),  # noqa: B023
                    rounds,
                    wall_seconds,
                )
            found.append(
                {
                    "device": f"{torch.cuda.get_device_name()}, {name}",
                    "size": size,
                    "weights": sum(weights.numel() for weights in planner.parameters()),
                    "training_samples_per_s": 1024 / training,
                    "ms_per_plan": 1e3 * single,
                    "plans_per_s_in_batches": 1024 / batched,
                }
            )
            print(found[-1], flush=True)
    return found


def wall_seconds() -> float:
    """Wall time once the GPU is done."""
    torch.cuda.synchronize()
    return time.perf_counter()


def best_seconds(work: Callable[[], object], rounds: int, clock: Callable[[], float]) -> float:
    """Seconds of the fastest of some rounds, after three that do not count."""
    for _ in range(3):
        work()
    found = []
    for _ in range(rounds):
        start = clock()
        work()
        found.append(clock() - start)
    return min(found)


def trainer(
    planner: DiffusionPlanner, batch: PlanningBatch, *, compiled: bool = False, half: bool = False
) -> Callable[[], None]:
    """One training step: loss, gradients, clipping, AdamW."""
    planner.train()
    optimizer = torch.optim.AdamW(planner.parameters(), lr=1e-4)
    loss = torch.compile(planner.loss) if compiled else planner.loss

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(batch.future.device.type, torch.bfloat16, enabled=half):
            found = loss(batch)["loss"]
        found.backward()
        torch.nn.utils.clip_grad_norm_(planner.parameters(), 1.0)
        optimizer.step()

    return step


def random_batch(rows: int) -> PlanningBatch:
    """Scenes of random numbers of the usual size, all there."""
    torch.manual_seed(0)
    scene = PlannerInput(
        ego_history=torch.randn(rows, HISTORY, 4),
        ego_history_mask=torch.ones(rows, HISTORY, dtype=torch.bool),
        ego_size_m=torch.full((rows, 2), 4.0),
        agents=10 * torch.randn(rows, AGENTS, HISTORY, 5),
        agent_mask=torch.rand(rows, AGENTS, HISTORY) < 0.8,
        agent_sizes_m=torch.full((rows, AGENTS, 2), 4.0),
        agent_kinds=torch.zeros(rows, AGENTS, dtype=torch.long),
        lines=20 * torch.randn(rows, LINES, POINTS, 2),
        line_mask=torch.rand(rows, LINES, POINTS) < 0.9,
        line_kinds=torch.zeros(rows, LINES, dtype=torch.long),
        line_limits_mps=torch.full((rows, LINES), 13.9),
        line_limit_mask=torch.ones(rows, LINES, dtype=torch.bool),
        line_lights=torch.zeros(rows, LINES, dtype=torch.long),
        route=20 * torch.randn(rows, PLACES, 2),
        route_mask=torch.ones(rows, PLACES, dtype=torch.bool),
        route_limits_mps=torch.full((rows, PLACES), 13.9),
        route_limit_mask=torch.ones(rows, PLACES, dtype=torch.bool),
        route_lights=torch.zeros(rows, PLACES, dtype=torch.long),
    )
    style = StyleCondition(
        torch.zeros(rows, STYLE_COUNT), torch.ones(rows, STYLE_COUNT, dtype=torch.bool)
    )
    future = torch.randn(rows, PLAN_STEPS, 3).abs().cumsum(1)
    batch = PlanningBatch(scene, style, future, torch.ones(rows, PLAN_STEPS, dtype=torch.bool))
    return replace(batch, style=StyleCondition(style.values + 0.5, style.mask))


def shown(value: object) -> str:
    """A number in few digits, anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
