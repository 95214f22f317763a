"""The whole path on a small scene: styles, vectors, teacher, training, rollouts, report."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from data_prep.artifact import read_artifact
from driving.__main__ import main
from driving.evaluation.tables import RESULTS
from driving.evaluation.teach import FARTHEST, drawn, spoiled_drives
from driving.planner.batch import SUB_SCORES
from driving.style.tables import SAMPLES
from tests.driving.small_scenes import write_small_scenes
from tests.driving.small_worlds import present_input, straight_road

PRESETS = ["conservative", "normal", "aggressive"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every artifact of the path."""
    folder = tmp_path_factory.mktemp("whole")
    write_small_scenes(folder / "scenes")
    scenes, styles, vectors = (str(folder / name) for name in ("scenes", "styles", "vectors"))
    run(f"annotate --scenes {scenes} --out {styles}")
    run(f"encode --scenes {scenes} --styles {styles} --out {vectors}")
    run(f"teach --scenes {scenes} --styles {styles} --variants 1 --out {folder / 'teacher'}")
    shared = f"--scenes {scenes} --styles {styles} --style-vectors {vectors} --split train"
    for rules in ("log", "idm"):
        run(
            f"simulate --rules {rules} {shared} --out {folder / rules} --examples 1 "
            "--conditions none own shuffled conservative normal aggressive "
            "--closed-conditions none conservative normal aggressive speed-1 speed+1"
        )
    run(
        f"report --rollouts {folder / 'log'} {folder / 'idm'} --resamples 100 "
        f"--out {folder / 'report'}"
    )
    return folder


def run(line: str) -> None:
    assert main(line.split()) == 0


def refused(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(line.split()) == 2
    return capsys.readouterr().err


def results(made: Path, name: str) -> pl.DataFrame:
    return read_artifact(made / name, kind="rollouts").table(RESULTS)


def test_the_log_s_own_ride_is_no_distance_from_the_log(made: Path) -> None:
    own = results(made, "log").filter(pl.col("loop") == "open")
    for name in ("ade_4s_m", "fde_4s_m", "style_l2_m", "missed"):
        assert own[name].abs().max() == pytest.approx(0.0, abs=1e-5)
    assert own["progress_m"].to_list() == pytest.approx(own["human_progress_m"].to_list())


def test_every_sample_is_driven_once_per_condition_and_loop(made: Path) -> None:
    samples = read_artifact(made / "styles", kind="styles").table(SAMPLES).height
    counts = results(made, "idm").group_by("loop", "condition").len()
    assert counts.height == 6 + 6
    assert counts["len"].unique().to_list() == [samples]


def test_closed_loops_say_nothing_of_displacement(made: Path) -> None:
    found = results(made, "idm")
    closed, opened = (found.filter(pl.col("loop") == loop) for loop in ("closed", "open"))
    assert closed["ade_4s_m"].null_count() == closed.height
    assert opened["ade_4s_m"].null_count() == 0


def test_the_score_is_the_gates_times_the_weighted_parts(made: Path) -> None:
    rows = results(made, "idm")
    for total, time, comfort, progress in (
        ("pdms", "time_to_collision", "comfort", "progress"),
        ("sm_pdms_released", "time_to_collision_released", "comfort_released", "progress_released"),
        ("sm_pdms_fine", "time_to_collision_fine", "comfort_fine", "progress_released"),
    ):
        parts = (5 * rows[time] + 5 * rows[progress] + 2 * rows[comfort]) / 12
        whole = rows["no_collision"] * rows["drivable_area"] * parts
        assert rows[total].to_list() == pytest.approx(whole.to_list(), abs=1e-5)


def test_idm_drives_faster_when_asked_to(made: Path) -> None:
    rows = results(made, "idm").filter(pl.col("loop") == "closed")
    means = {
        name: rows.filter(pl.col("condition") == name)["progress_m"].mean()
        for name in [*PRESETS, "speed-1", "speed+1"]
    }
    assert means["conservative"] < means["normal"] <= means["aggressive"]  # type: ignore[operator]
    assert means["speed-1"] < means["speed+1"]  # type: ignore[operator]


def test_a_teacher_drives_training_samples_and_scores_them(made: Path) -> None:
    arrays = read_artifact(made / "teacher", kind="teacher").arrays("teacher")
    assert arrays["poses"].shape[1:] == (4, 8, 3)
    assert arrays["mask"].all()
    scores = dict(zip(SUB_SCORES, np.moveaxis(arrays["sub_scores"], -1, 0), strict=True))
    assert ((scores["no_collision"] >= 0) & (scores["no_collision"] <= 1)).all()
    # relative to the best of the rides; in the way of track 0 somebody appears out of nowhere
    safe = (scores["no_collision"] * scores["drivable"]) > 0
    driven = arrays["sub_score_mask"].all(-1) & (np.arange(safe.shape[1]) < 4)  # and not displaced
    driven[:, -1] = True  # the log's own ride
    safely_driven = (safe & driven).any(1)
    assert not safely_driven[:4].any()
    assert safely_driven[4:].sum() >= 5
    assert scores["progress"].max(1) == pytest.approx(safe.any(1).astype(float))
    assert not safe[:, 4:-1].all()  # some of the spoiled drives are unsafe
    begins_here = (arrays["displacement"] == 0).all(-1)
    assert begins_here[:, :3].all()  # the presets
    assert not begins_here.all()
    known = arrays["sub_score_mask"][..., SUB_SCORES.index("no_collision")]
    assert np.array_equal(known[:, :4], begins_here)
    speed = scores["mean_speed_mps"]
    assert (speed[:, 0] <= speed[:, 2] + 1e-4).all()  # conservative is not faster
    assert speed[0, -1] == pytest.approx(10.0, abs=0.1)  # the log's own ride is the last


def test_drawn_styles_do_not_depend_on_batches(made: Path, tmp_path: Path) -> None:
    run(
        f"teach --scenes {made / 'scenes'} --styles {made / 'styles'} --variants 1 --batch-size 3 "
        f"--out {tmp_path / 'teacher'}"
    )
    one = read_artifact(made / "teacher", kind="teacher").arrays("teacher")
    other = read_artifact(tmp_path / "teacher", kind="teacher").arrays("teacher")
    for name in ("style_values", "style_mask", "displacement"):
        assert np.array_equal(one[name], other[name])
    assert np.allclose(one["poses"], other["poses"], atol=1e-4)


def test_half_of_the_drawn_variants_begin_elsewhere_and_half_state_one_dimension() -> None:
    draws = drawn(np.arange(300), 4, seed=0)
    displaced = (draws.displacement != 0).any(-1)
    assert displaced.mean() == pytest.approx(0.5, abs=0.05)
    assert (np.abs(draws.displacement) <= FARTHEST).all()
    stated = draws.style_mask.sum(-1)
    # one of eight by intent, and now and then by chance: 0.5 + 0.5 * 8 / 256
    assert (stated == 1).mean() == pytest.approx(0.516, abs=0.05)
    assert not draws.style_values[~draws.style_mask].any()
    again = drawn(np.array([7]), 4, seed=0)
    assert np.array_equal(again.style_values[0], draws.style_values[7])


def test_a_spoiled_drive_drifts_aside_and_is_longer_or_shorter() -> None:
    scene = present_input(straight_road(speed_mps=10.0))
    poses = torch.zeros(1, 8, 3)
    poses[0, :, 0] = 5.0 * torch.arange(1, 9)
    spoiled = spoiled_drives(scene, poses, torch.tensor([[[2.0, 1.0], [0.0, 0.5]]]))
    share = torch.arange(1, 9) / 8
    aside, short = spoiled[0]
    torch.testing.assert_close(aside[:, 1], 2 * share**2, atol=1e-3, rtol=0)
    torch.testing.assert_close(aside[:, 0], poses[0, :, 0], atol=1e-3, rtol=0)
    slope = torch.atan(2 * 2 * share / 40)  # of the parabola, whose 40 m are driven evenly
    torch.testing.assert_close(aside[:, 2], slope, atol=1e-3, rtol=0)
    torch.testing.assert_close(short[:, 0], poses[0, :, 0] / 2, atol=1e-3, rtol=0)
    assert short[:, 1:].abs().max() < 1e-3


def test_a_report_holds_what_the_rollouts_say(made: Path) -> None:
    report = read_artifact(made / "report", kind="report")
    metrics = report.json("metrics")
    cells = {(c["planner"], c["loop"], c["condition"]): c for c in metrics["cells"]}
    rows = results(made, "idm").filter((pl.col("loop") == "open") & (pl.col("condition") == "none"))
    found = cells["idm", "open", "none"]["metrics"]["ade_4s_m"]["value"]
    assert found == pytest.approx(rows["ade_4s_m"].mean())
    assert ("idm", "closed", "speed-1") not in cells  # sweeps have a table of their own
    tau = {
        row["measure"]: row
        for row in metrics["monotonicity"]
        if row["planner"] == "idm" and row["loop"] == "closed"
    }
    assert tau["mean_speed_mps"]["tau"]["value"] > 0.5
    assert metrics["data"]["samples"] == rows.height
    assert {row["style"] for row in metrics["headline"]} == {"none", *PRESETS}


def test_the_page_draws_the_same_scene_in_three_styles(made: Path) -> None:
    page = (made / "report" / "report.html").read_text()
    assert page.count('class="road c') == 3
    assert page.count("animateTransform") >= 3
    assert "Simulated data." in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_a_report_refuses_what_cannot_be_compared(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = refused(
        f"report --rollouts {made / 'idm'} {made / 'idm'} --out {tmp_path / 'r'}", capsys
    )
    assert "two rollouts are called idm" in twice
    shared = f"--scenes {made / 'scenes'} --styles {made / 'styles'} --split train"
    run(
        f"simulate --rules log --name few {shared} --maximum-samples 2 --conditions none "
        f"--closed-conditions none --out {tmp_path / 'few'}"
    )
    other = refused(
        f"report --rollouts {made / 'idm'} {tmp_path / 'few'} --out {tmp_path / 'r'}", capsys
    )
    assert "drove other samples" in other


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--rules idm --split test", "has no sample of the split test"),
        ("--rules idm --ride-s 20", "whose log goes on for 20 s; pass a smaller --ride-s"),
        ("--rules idm --ride-s 4.2", "--ride-s must be a multiple of 0.5 and at least 4"),
        ("--rules idm --ride-s 3.5", "--ride-s must be a multiple of 0.5 and at least 4"),
        ("--rules idm --conditions fast", "there is no condition fast"),
        ("--rules idm --conditions own", "needs style vectors that hold own"),
        ("--rules idm --set guidance=2", "rules have no options to set"),
        ("--rules idm --checkpoint x", "pass either --checkpoint FOLDER or --rules NAME"),
        ("--rules idm --maximum-samples 0", "--maximum-samples must be at least 1"),
        ("--rules idm --conditions --closed-conditions", "nothing is asked"),
        ("", "pass either --checkpoint FOLDER or --rules NAME"),
    ],
)
def test_simulate_says_what_is_wrong(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, said: str
) -> None:
    shared = f"--scenes {made / 'scenes'} --styles {made / 'styles'} --out {tmp_path / 'r'}"
    split = "" if "--split" in options else "--split train"
    assert said in refused(f"simulate {shared} {split} {options}", capsys)
    assert not (tmp_path / "r").exists()


def test_longer_rides_keep_the_scores_of_their_first_four_seconds(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = f"--scenes {made / 'scenes'} --styles {made / 'styles'} --split train --rules idm"
    asked = "--conditions none --closed-conditions none normal --examples 1"
    run(f"simulate {shared} {asked} --name long --ride-s 6 --out {tmp_path / 'long'}")
    assert "left out whose log ends before 6 s" in capsys.readouterr().err
    long, short = results(tmp_path, "long"), results(made, "idm")
    keys = ["loop", "condition", "sample_id"]
    both = long.join(short, on=keys, suffix="_short", how="inner")
    assert both.height == long.height > 0
    for name in ("pdms", "sm_pdms_released", "no_collision", "progress_m", "start_gap_m"):
        assert both[name].to_list() == pytest.approx(both[f"{name}_short"].to_list(), abs=1e-4)
    closed, opened = (long.filter(pl.col("loop") == loop) for loop in ("closed", "open"))
    assert closed["driven_m"].list.len().unique().to_list() == [6]
    assert closed["gap_m"].list.len().unique().to_list() == [7]
    assert opened["driven_m"].list.len().unique().to_list() == [4]
    assert opened["no_collision_ride"].to_list() == opened["no_collision"].to_list()
    assert (closed["no_collision_ride"] <= closed["no_collision"]).all()
    artifact = read_artifact(tmp_path / "long", kind="rollouts")
    left_out = artifact.manifest.notes["left_out"]
    samples = read_artifact(made / "styles", kind="styles").table(SAMPLES)
    assert left_out == samples.height - closed["sample_id"].n_unique() > 0
    (example,) = json.loads((tmp_path / "long" / "examples.json").read_text())
    assert len(example["drives"]["normal"]["ego"]) == 31
    other = refused(
        f"report --rollouts {made / 'idm'} {tmp_path / 'long'} --out {tmp_path / 'r'}", capsys
    )
    assert "and --ride-s" in other


def test_examples_are_plain_and_complete(made: Path) -> None:
    (example,) = json.loads((made / "idm" / "examples.json").read_text())
    assert set(PRESETS) <= set(example["drives"])
    drive = example["drives"]["normal"]
    assert len(drive["ego"]) == len(drive["speed_mps"]) == 21
    assert all(len(agent["poses"]) == 21 for agent in drive["agents"])
