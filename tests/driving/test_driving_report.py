"""The numbers, sentences and pictures of a driving report, on rides made up to be known."""

import re
from typing import Any

import numpy as np
import polars as pl
import pytest

from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.evaluation.conditions import sweep_names
from driving.evaluation.tables import CLOSED_LOOP, OPEN_LOOP, RESULTS
from driving.report.numbers import Drawing, DrivenRun, cells, comparisons
from driving.report.pictures import scene_pictures, speed_curves
from driving.report.recognition import ride_features
from driving.report.responses import responses
from driving.report.style_numbers import (
    monotonicity,
    nearest_of_others,
    recovery,
    safety_of_styles,
)
from driving.report.verdict import verdict
from driving.style.measures import MEASURE_NAMES

PRESETS = ("conservative", "normal", "aggressive")
SAMPLES = 12
DRAWING = Drawing(resamples=200)


def rows(loop: str, condition: str, **given: Any) -> pl.DataFrame:
    """Twelve samples of four recordings; every number 1 unless given."""
    columns: dict[str, object] = {
        name: given.get(name, 1.0) for name, dtype in RESULTS.polars.items() if dtype == pl.Float32
    }
    columns |= {name: given.get(name) for name in MEASURE_NAMES}
    style = given.get("style", 0.0)
    frame = pl.DataFrame(
        {
            "loop": [loop] * SAMPLES,
            "condition": [condition] * SAMPLES,
            "sample_id": list(range(SAMPLES)),
            "style_values": [[float(style)] * 8] * SAMPLES,
            "style_mask": [[True] * 4 + [False] * 4] * SAMPLES,
            "driven_label": ["normal"] * SAMPLES,
            "start_light": ["unknown"] * SAMPLES,
            "driven_m": [given.get("driven_m", [1.0, 2.0, 3.0, 4.0])] * SAMPLES,
            "gap_m": [given.get("gap_m", [float("nan")] * 5)] * SAMPLES,
            "leader_mps": [[float("nan")] * 5] * SAMPLES,
            "recording": np.arange(SAMPLES) // 3,
            "label": ["normal"] * SAMPLES,
        }
    )
    columns = {name: value for name, value in columns.items() if name not in frame.columns}
    values = [
        pl.Series(name, value if isinstance(value, list) else [value] * SAMPLES, pl.Float64)
        for name, value in columns.items()
    ]
    return frame.with_columns(values)


def a_run(
    *parts: pl.DataFrame, reads_style: bool = True, name: str = "ours", rules: str = ""
) -> DrivenRun:
    return DrivenRun(name, pl.concat(parts), {}, reads_style, rules)


def three(loop: str, **by_preset: list[Any]) -> list[pl.DataFrame]:
    """The presets, each measure with its three values."""
    return [
        rows(loop, preset, **{name: values[place] for name, values in by_preset.items()})
        for place, preset in enumerate(PRESETS)
    ]


def test_cells_hold_means_counts_and_intervals_over_recordings() -> None:
    values = [float(number) for number in range(SAMPLES)]
    (cell,) = cells([a_run(rows(OPEN_LOOP, "none", ade_4s_m=values))], DRAWING)
    assert (cell["samples"], cell["recordings"]) == (12, 4)
    found = cell["metrics"]["ade_4s_m"]
    assert found["value"] == pytest.approx(5.5)
    assert 1.0 <= found["low"] < 5.5 < found["high"] <= 10.0  # means of whole recordings
    assert cell["metrics"]["pdms"]["value"] == 1.0


def test_cells_leave_out_what_a_closed_loop_has_not_and_the_sweeps() -> None:
    closed = rows(CLOSED_LOOP, "none").with_columns(ade_4s_m=pl.lit(None, pl.Float64))
    found = cells([a_run(closed, rows(CLOSED_LOOP, sweep_names()[0]))], DRAWING)
    assert len(found) == 1
    assert "ade_4s_m" not in found[0]["metrics"]


def test_who_stands_where_the_human_drives_has_frozen() -> None:
    progress = [1.0, 10.0] * 6
    driven = rows(OPEN_LOOP, "none", progress_m=progress, human_progress_m=10.0)
    (cell,) = cells([a_run(driven)], DRAWING)
    assert cell["anti_freeze"] is not None
    assert cell["anti_freeze"]["value"] == pytest.approx(0.5)


def test_tau_is_one_where_every_sample_moves_the_right_way() -> None:
    found = monotonicity(
        [a_run(*three(CLOSED_LOOP, mean_speed_mps=[5, 6, 7], time_gap_s=[2.0, 1.5, 1.0]))], DRAWING
    )
    taus = {row["measure"]: row["tau"]["value"] for row in found if "tau" in row}
    assert taus["mean_speed_mps"] == 1.0
    assert taus["time_gap_s"] == 1.0  # shorter is right
    assert "peak_jerk_mps3" not in taus  # never measured
    wrong = monotonicity([a_run(*three(CLOSED_LOOP, mean_speed_mps=[7, 6, 5]))], DRAWING)
    assert wrong[0]["tau"]["value"] == -1.0


def test_what_never_moves_has_no_tau_and_is_counted() -> None:
    found = monotonicity([a_run(*three(CLOSED_LOOP, mean_speed_mps=[5, 5, 5]))], DRAWING)
    assert "tau" not in found[0]
    assert found[0]["constant"] == SAMPLES


def test_styles_that_differ_are_recovered_and_those_that_do_not_are_not() -> None:
    apart = three(CLOSED_LOOP, mean_speed_mps=[5, 8, 11], style=[-0.5, 0.0, 0.5])
    (good,) = recovery([a_run(*apart)])
    assert good["macro_f1_by_classifier"] == 1.0
    assert good["macro_f1_by_nearest_mean"] == 1.0
    assert good["macro_f1_of_normal"] == pytest.approx(1 / 6)
    (poor,) = recovery([a_run(*three(CLOSED_LOOP, mean_speed_mps=[5, 5, 5]))])
    assert poor["macro_f1_by_classifier"] < 0.5


def test_a_ride_is_never_judged_by_its_own_recording() -> None:
    values = np.array([[0.0], [1.0], [5.0], [0.1], [1.1], [0.2], [1.2]])
    asked = np.array([0, 1, 0, 0, 1, 0, 1])
    recordings = np.array([0, 0, 1, 2, 2, 3, 3])
    assert nearest_of_others(values, asked, recordings)[2] == 1  # 5.0 is nearer to the others' 1


def test_safety_is_aggressive_minus_normal() -> None:
    driven = three(CLOSED_LOOP, no_collision_ride=[1.0, 1.0, 0.9], no_collision=[1.0, 1.0, 1.0])
    found = {row["metric"]: row["value"] for row in safety_of_styles([a_run(*driven)], DRAWING)}
    assert found["no_collision_ride"] == pytest.approx(-0.1)  # of the whole ride
    assert found["drivable_area_ride"] == 0.0


def test_comparisons_are_paired_and_only_of_who_reads_styles() -> None:
    noise = np.linspace(0, 3, SAMPLES)
    pair = (
        rows(OPEN_LOOP, "none", ade_4s_m=(noise + 1.0).tolist()),
        rows(OPEN_LOOP, "own", ade_4s_m=(noise + 0.5).tolist()),
    )
    found = {(row["metric"]): row for row in comparisons([a_run(*pair)], DRAWING)}
    assert found["ade_4s_m"]["difference"] == pytest.approx(-0.5)
    assert found["ade_4s_m"]["high"] == pytest.approx(-0.5)  # the same for every sample
    assert comparisons([a_run(*pair, reads_style=False)], DRAWING) == []


def test_responses_are_what_moved_from_one_end_to_the_other() -> None:
    parts = [rows(CLOSED_LOOP, name, style=0.3 if "+" in name else -0.2) for name in sweep_names()]
    (found,) = responses([a_run(*parts)])
    assert found["moved"][0][:4] == pytest.approx([0.5] * 4)
    assert found["moved"][0][4:] == [None] * 4  # masked
    assert len(found["moved"]) == len(STYLE_DIMENSIONS)
    assert responses([a_run(*parts[:-1])]) == []


def test_responses_stand_beside_the_teacher_s_with_side_effects_and_raw_measures() -> None:
    names = sweep_names()
    teacher = [rows(CLOSED_LOOP, name, style=0.4 if "+" in name else -0.4) for name in names]
    ours = [rows(CLOSED_LOOP, name, style=0.1 if "+" in name else 0.0) for name in names]
    for place, speed in ((0, 5.0), (1, 8.0)):  # speed-1, speed+1: the others move the other way
        style = [[0.1 + 0.2 * place, 0.3 - 0.4 * place, 0.0, 0.1 * place] + [0.0] * 4] * SAMPLES
        column = pl.Series("style_values", style, pl.List(pl.Float64))
        ours[place] = rows(CLOSED_LOOP, names[place], mean_speed_mps=speed).with_columns(column)
    found = {each["planner"]: each for each in responses(
        [a_run(*ours), a_run(*teacher, name="idm", rules="idm")]
    )}  # fmt: skip
    row = found["ours"]["rows"][0]
    assert row["dimension"] == "speed"
    assert row["own"] == pytest.approx(0.2)
    assert row["teacher"] == pytest.approx(0.8)
    assert (row["side_effect"], row["side_effect_moved"]) == ("time_gap", pytest.approx(-0.4))
    assert row["side_effect_ratio"] == pytest.approx((0.4 + 0.0 + 0.1) / 3 / 0.2)
    assert row["samples"] == SAMPLES
    assert row["measures"]["mean_speed_mps"] == pytest.approx(3.0)
    assert row["measures"]["time_gap_s"] is None  # never measured
    few = [[True] * 4 + [False] * 4] * 9 + [[True, False, True, True] + [False] * 4] * 3
    rare = [part.with_columns(pl.Series("style_mask", few)) for part in ours]
    first = responses([a_run(*rare)])[0]["rows"][0]
    assert first["side_effect"] == "braking"  # time_gap was seen in nine samples only
    assert first["side_effect_ratio"] == pytest.approx((0.0 + 0.1) / 2 / 0.2)
    masked = found["ours"]["rows"][5]
    assert (masked["own"], masked["samples"], masked["side_effect_ratio"]) == (None, 0, None)
    assert responses([a_run(*ours)])[0]["rows"][0]["teacher"] is None


def test_rides_that_are_the_same_to_a_metre_are_counted() -> None:
    apart = [[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.5, 4.0], [1.0, 2.0, 4.1, 4.0]]
    (same,) = recovery([a_run(*three(CLOSED_LOOP, mean_speed_mps=[5, 6, 7]))])
    (other,) = recovery([a_run(*three(CLOSED_LOOP, driven_m=apart))])
    assert same["alike"] == 1.0
    assert other["alike"] == 0.0  # 1.1 m apart after three seconds


def test_a_passenger_notices_time_gaps_while_following_and_the_gap_in_a_queue() -> None:
    # 4 m/s, 4 m/s, then slowing to a stand behind somebody
    ride = rows(CLOSED_LOOP, "none", driven_m=[4.0, 8.0, 9.0, 9.2], gap_m=[9.0, 8.0, 6.0, 3.0, 2.5])
    speed_2s, speed_4s, gap_2s, gap_4s, time_gap_2s, time_gap_4s, *_ = ride_features(ride)[0, -11:]
    assert (speed_2s, speed_4s) == pytest.approx((4.0, 0.2))
    assert (gap_2s, gap_4s) == (6.0, 2.5)
    assert (time_gap_2s, time_gap_4s) == pytest.approx((1.5, 1.25))  # no speed below 2 m/s counts
    usual, closest, queues = ride_features(ride)[0, -3:]
    assert (usual, closest, queues) == pytest.approx(((2.0 + 1.5) / 2, 1.5, 2.5))


def _metrics(tau: float, f1: float, drivable: float) -> dict:
    taus = [
        {"planner": "ours", "loop": "closed", "measure": name, "tau": {"value": tau}}
        for name in ("mean_speed_mps", "time_gap_s")
    ]
    return {
        "cells": [],
        "runs": [{"planner": "ours", "reads_style": True}],
        "monotonicity": taus,
        "recovery": [
            {
                "planner": "ours",
                "loop": "closed",
                "macro_f1_by_classifier": f1,
                "macro_f1_of_normal": 1 / 6,
            }
        ],
        "safety": [
            {"planner": "ours", "loop": "closed", "metric": "drivable_area_ride", "value": drivable}
        ],
    }


def test_the_verdict_says_failures_as_plainly_as_successes() -> None:
    good = " ".join(verdict(_metrics(0.9, 0.85, 0.0)))
    assert "ours follows the style asked for:" in good
    assert "Less safe" not in good
    poor = " ".join(verdict(_metrics(0.9, 0.5, -0.02)))
    assert "only in part" in poor
    assert "Less safe by more than one point" in poor


def example() -> dict:
    ego = [[float(step), 0.0, 0.0] for step in range(5)]
    agent = {"kind": 0, "size": [4.0, 2.0], "poses": [None, *([[9.0, 3.0, 0.1]] * 4)]}
    drive = {"ego": ego, "speed_mps": [5.0] * 5, "agents": [agent], "facts": {}}
    line = {"kind": 0, "points": [[0.0, 0.0], [20.0, 0.0]]}
    far = {"kind": 1, "points": [[900.0, 0.0], [901.0, 0.0]]}
    drives = {"normal": drive, "aggressive": drive}
    return {"step_s": 0.2, "ego_size": [4.5, 1.8], "lines": [line, far], "drives": drives}


def test_a_picture_moves_in_the_time_of_the_drive_and_shows_who_is_there() -> None:
    found = scene_pictures(example(), ["normal", "aggressive"], {"normal": 0, "aggressive": 1})
    assert list(found) == ["normal", "aggressive"]
    picture = found["normal"]
    assert 'values="0.00 0.00;1.00 0.00;2.00 0.00;3.00 0.00;4.00 0.00" dur="0.8s"' in picture
    assert 'values="hidden;visible;visible;visible;visible"' in picture
    assert picture.count("<polyline") == 3  # the near lane, its surface, and the trail
    assert picture.count("<circle") == 0  # not yet a second
    boxes = {re.search(r'viewBox="([^"]+)"', one)[1] for one in found.values()}  # type: ignore[index]
    assert len(boxes) == 1  # the same stretch of road


def test_curves_share_one_scale() -> None:
    drawn = speed_curves(example(), ["normal", "aggressive"], {})
    points = re.findall(r'<polyline points="([^"]+)"', drawn)
    assert len(points) == 2
    assert points[0] == points[1]


def test_a_dot_marks_every_second_of_a_drive() -> None:
    scene = example()
    ego = [[float(step), 0.5 * step, 0.0] for step in range(11)]  # two seconds of 0.2 s
    scene["drives"]["normal"] = scene["drives"]["normal"] | {"ego": ego}
    picture = scene_pictures(scene, ["normal"], {})["normal"]
    assert re.findall(r'cx="([^"]+)" cy="([^"]+)"', picture) == [
        ("5.00", "2.50"),
        ("10.00", "5.00"),
    ]
