"""StyleDrive's label files: their quirks, a round trip, and every field by hand."""

import dataclasses
import json

import numpy as np
import pytest

from data_prep.errors import InputError
from driving.style.styledrive_fields import TenFrames, styledrive_fields
from driving.style.styledrive_file import (
    StyleDriveLabel,
    read_styledrive_file,
    scenario_name,
    write_styledrive_file,
)
from driving.world import AGENT_CYCLIST, AGENT_PEDESTRIAN, AGENT_STATIC, AGENT_VEHICLE

# The example record of StyleDrive's documentation.
EXAMPLE = {
    "vx_ego": [4.11, 4.14, 4.17, 4.21, 4.35, 4.60, 4.95, 5.31, 5.66, 6.08],
    "vy_ego": [0.01, -0.04, -0.03, -0.04, -0.01, 0.04, 0.07, 0.13, 0.13, 0.13],
    "v_ego": [4.11, 4.14, 4.17, 4.21, 4.35, 4.60, 4.95, 5.31, 5.66, 6.08],
    "ax_ego": [0.04, 0.08, 0.04, 0.13, 0.41, 0.65, 0.80, 0.75, 0.73, 0.99],
    "ay_ego": [-0.65, -0.64, -1.18, -1.43, -1.58, -1.85, -2.17, -2.22, -1.79, -1.67],
    "a_ego": [0.65, 0.65, 1.18, 1.43, 1.63, 1.96, 2.31, 2.34, 1.94, 1.94],
    "yaw": [2.16, 2.09, 1.98, 1.83, 1.65, 1.44, 1.23, 1.00, 0.82, 0.67],
    "yaw_diff": [-0.13, -0.22, -0.31, -0.36, -0.40, -0.43, -0.45, -0.36, -0.29, -0.29],
    "min_front_frame": [9, 22.69],
    "v_avg": 4.76,
    "v_std": 0.67,
    "vy_max": 0.13,
    "a_max": 2.34,
    "ax_avg": 0.46,
    "a_std": 0.59,
    "ini_direction_judge": "right",
    "scenario_type": "protected_intersections",
    "scene_token": "a631fec170525388",
    "has_left_rear": False,
    "has_right_rear": True,
    "left_rear_min": None,
    "right_rear_min": 9.69,
    "speed_mode": "accelerating",
    "front_frame": [-1, -1, -1, -1, 22.69],
    "safe_frame": [-1, -1, -1, -1, 1],
    "safe_ratio": 1.0,
    "unsafe_ratio": 0.0,
    "oversafe_ratio": 0.0,
    "ANC_result": "N",
    "scene_scenario": "protected_intersections",
    "lane_change_frame": -1,
    "token": "a631fec170525388",
    "pedestrians": "No",
    "with_lead": "Far",
}


def _others(*rows):
    """Others at (x, y) in every frame: seen, sizes of 4 by 2, kinds."""
    count = len(rows)
    return {
        "others": np.array([[(x, y, 0.0)] * 10 for x, y, *_ in rows], dtype=np.float64).reshape(
            count, 10, 3
        ),
        "other_mask": np.ones((count, 10), dtype=bool),
        "other_sizes_m": np.full((count, 2), (4.0, 2.0)),
        "other_kinds": np.array([row[2] if len(row) > 2 else AGENT_VEHICLE for row in rows], int),
    }


def _straight(speed_mps=10.0, **changes):
    """An ego of 5 by 2 that is held at the origin, so that the others' places are relative."""
    plain = {
        "poses": np.zeros((10, 3)),
        "velocities_mps": np.tile([speed_mps, 0.0], (10, 1)),
        "accelerations_mps2": np.zeros((10, 2)),
        "size_m": np.array([5.0, 2.0]),
        **_others(),
    }
    return TenFrames(**{**plain, **changes})


def _documented():
    """What their example record was worked out from, as far as it shows."""
    poses = np.zeros((10, 3))
    poses[:, 2] = EXAMPLE["yaw"]
    x, y = 22.69 + 4.5, 0.0
    lead, behind = _others((x, y), (-9.69 - 4.5, -3.0)), poses[:, 2]
    turn = np.stack([np.cos(behind), np.sin(behind), -np.sin(behind), np.cos(behind)], -1)
    ahead_left = lead["others"][..., :2]
    lead["others"][..., :2] = np.einsum("frc,ofr->ofc", turn.reshape(10, 2, 2), ahead_left)
    lead["other_mask"][0, :9] = False
    return TenFrames(
        poses=poses,
        velocities_mps=np.stack([EXAMPLE["vx_ego"], EXAMPLE["vy_ego"]], -1),
        accelerations_mps2=np.stack([EXAMPLE["ax_ego"], EXAMPLE["ay_ego"]], -1),
        size_m=np.array([5.0, 2.0]),
        **lead,
    )


def test_the_documented_example_comes_out_of_its_own_signals():
    fields = styledrive_fields(_documented())
    again = dict(EXAMPLE)
    for own in ("token", "scene_token", "ANC_result", "scenario_type", "scene_scenario"):
        again.pop(own)
    assert fields.keys() == again.keys()
    for name, expected in again.items():
        if isinstance(expected, (list, float)):  # their headings are rounded before we see them
            off = 0.0201 if name == "yaw_diff" else 0.0101
            assert fields[name] == pytest.approx(expected, abs=off), name
        else:
            assert fields[name] == expected, name
    json.dumps(fields, allow_nan=False)


def test_motion_by_hand():
    velocities = np.stack([np.arange(10.0), np.where(np.arange(10) == 4, -3.0, 0.0)], -1)
    poses = np.zeros((10, 3))
    poses[:, 2] = np.where(np.arange(10) < 5, 3.1, -3.1)  # 0.083 rad to the left over the seam
    accelerations = np.tile([-2.0, 1.5], (10, 1))
    fields = styledrive_fields(
        _straight(poses=poses, velocities_mps=velocities, accelerations_mps2=accelerations)
    )
    assert fields["v_ego"][:5] == [0.0, 1.0, 2.0, 3.0, 5.0]
    assert fields["vy_max"] == 3.0
    assert fields["a_ego"] == [2.5] * 10
    assert (fields["a_max"], fields["a_std"], fields["ax_avg"]) == (2.5, 0.0, -2.0)
    assert fields["yaw_diff"][4] == pytest.approx((2 * np.pi - 6.2) / 0.5, abs=0.006)
    assert fields["speed_mode"] == "decelerating"
    assert fields["ini_direction_judge"] == "straight"
    assert fields["v_avg"] == pytest.approx(4.6)


@pytest.mark.parametrize(("turned", "side"), [(0.6, "left"), (-0.6, "right"), (0.2, "straight")])
def test_a_turn_has_a_side(turned, side):
    poses = np.zeros((10, 3))
    poses[:, 2] = np.linspace(3.0, 3.0 + turned, 10)
    assert styledrive_fields(_straight(poses=poses))["ini_direction_judge"] == side


@pytest.mark.parametrize(
    ("gap_m", "speed_mps", "state", "lead"),
    [
        (9.0, 10.0, 0, "Near"),
        (15.0, 10.0, 1, "Near"),
        (25.0, 10.0, 1, "Far"),
        (41.0, 10.0, 2, "Far"),
        (2.0, 0.1, 1, "Near"),
        (61.0, 10.0, -1, "No"),
    ],
)
def test_following_by_hand(gap_m, speed_mps, state, lead):
    fields = styledrive_fields(_straight(speed_mps, **_others((gap_m + 4.5, 0.5), (80.0, 0.0))))
    assert fields["safe_frame"] == [state] * 5
    assert fields["with_lead"] == lead
    ratios = [fields[name] for name in ("unsafe_ratio", "safe_ratio", "oversafe_ratio")]
    assert ratios == [float(state == at) for at in range(3)]
    if state >= 0:
        assert fields["min_front_frame"] == [0, gap_m]
        assert fields["front_frame"] == [gap_m] * 5
    else:
        assert (fields["min_front_frame"], fields["front_frame"]) == ([-1, -1], [-1.0] * 5)


def test_only_who_drives_in_the_ego_lane_leads():
    beside = _others((20.0, 2.1), (-20.0, 0.0), (20.0, 0.0, AGENT_PEDESTRIAN))
    assert styledrive_fields(_straight(**beside))["with_lead"] == "No"
    assert styledrive_fields(_straight(**_others((20.0, 1.9))))["with_lead"] == "Near"
    cyclist = _others((20.0, 0.0, AGENT_CYCLIST))
    assert styledrive_fields(_straight(**cyclist))["with_lead"] == "Near"
    unseen = {**_others((20.0, 0.0)), "other_mask": np.zeros((1, 10), dtype=bool)}
    assert styledrive_fields(_straight(**unseen))["with_lead"] == "No"


def test_ratios_count_frames_with_a_leader_at_every_second_frame():
    others = _others((14.5, 0.0))
    others["others"][0, :, 0] = [14.5, 9.5, 99, 14.5, 99, 99, 99, 99, 99, 49.5]  # gaps 5, 10, 45
    fields = styledrive_fields(_straight(**others))
    assert fields["front_frame"] == [5.0, 10.0, -1.0, -1.0, 45.0]
    assert fields["safe_frame"] == [0, 1, -1, -1, 2]
    assert fields["min_front_frame"] == [1, 5.0]
    assert [fields[f"{n}_ratio"] for n in ("unsafe", "safe", "oversafe")] == [0.33, 0.33, 0.33]


def test_who_comes_from_behind_by_hand():
    fields = styledrive_fields(_straight(**_others((-14.5, 3.5), (-24.5, 3.5), (5.0, -3.5))))
    assert (fields["has_left_rear"], fields["left_rear_min"]) == (True, 10.0)
    assert (fields["has_right_rear"], fields["right_rear_min"]) == (False, None)
    assert "merge_risk" not in fields
    far = styledrive_fields(_straight(**_others((-40.0, 3.5), (-14.5, 6.0), (-14.5, -0.5))))
    assert not far["has_left_rear"]
    assert not far["has_right_rear"]


def test_merging_and_walking_and_changing_lane():
    near = styledrive_fields(_straight(merging=True, **_others((-6.0, -3.5))))
    assert near["merge_risk"] == "Yes"
    assert styledrive_fields(_straight(merging=True))["merge_risk"] == "No"
    for place, answer in (((10.0, -3.0), "Yes"), ((10.0, -5.0), "No"), ((-10.0, 0.0), "No")):
        walking = _straight(**_others((*place, AGENT_PEDESTRIAN)))
        assert styledrive_fields(walking)["pedestrians"] == answer
    standing = _straight(**_others((10.0, 0.0, AGENT_STATIC)))
    assert styledrive_fields(standing)["pedestrians"] == "No"
    assert styledrive_fields(_straight(lane_change_frame=4))["lane_change_frame"] == 4
    assert styledrive_fields(_straight())["lane_change_frame"] == -1


def test_turning_the_world_changes_nothing_but_the_heading():
    base = _straight(**_others((20.0, 0.5), (-12.0, 3.0), (15.0, -2.0, AGENT_PEDESTRIAN)))
    angle = 2.2
    cosine, sine = np.cos(angle), np.sin(angle)

    def turned(poses):
        x, y, heading = np.moveaxis(poses, -1, 0)
        return np.stack(
            [x * cosine - y * sine + 70.0, x * sine + y * cosine - 30.0, heading + angle], -1
        )

    moved = dataclasses.replace(base, poses=turned(base.poses), others=turned(base.others))
    first, second = styledrive_fields(base), styledrive_fields(moved)
    assert {k: v for k, v in first.items() if k != "yaw"} == {
        k: v for k, v in second.items() if k != "yaw"
    }


def test_a_label_looks_at_ten_frames():
    with pytest.raises(ValueError, match="looks at 10 frames, got 9"):
        dataclasses.replace(
            _straight(),
            poses=np.zeros((9, 3)),
            velocities_mps=np.zeros((9, 2)),
            accelerations_mps2=np.zeros((9, 2)),
            others=np.zeros((0, 9, 3)),
            other_mask=np.zeros((0, 9), dtype=bool),
        )


def test_their_file_is_read_with_its_quirks(tmp_path):
    path = tmp_path / "styletest.json"
    records = {
        "a631fec170525388": EXAMPLE,
        "0000000000000001": {"ANC_result": "A", "scenario_type": "roundout_entrance"},
        "0000000000000002": {"ANC_result": "C", "scene_scenario": "carpark areas"},
        "0000000000000003": {"ANC_result": "N"},
    }
    path.write_text(json.dumps(records))
    labels = read_styledrive_file(path)
    assert {token: label.label for token, label in labels.items()} == {
        "a631fec170525388": "normal",
        "0000000000000001": "aggressive",
        "0000000000000002": "conservative",
        "0000000000000003": "normal",
    }
    assert [labels[token].scenario_type for token in records] == [
        "protected_intersections",
        "roundout_entrance",
        "carpark areas",
        None,
    ]
    example = labels["a631fec170525388"].fields
    assert example["min_front_frame"] == [9, 22.69]
    assert "token" not in example


def test_what_is_written_reads_back_equal(tmp_path):
    fields = styledrive_fields(_documented())
    labels = [
        StyleDriveLabel("b" * 16, "conservative", "carpark areas", fields),
        StyleDriveLabel(
            "a" * 16, "aggressive", "roundout_interior", styledrive_fields(_straight())
        ),
        StyleDriveLabel("c" * 16, "normal"),
    ]
    path = tmp_path / "ours.json"
    write_styledrive_file(path, labels)
    assert read_styledrive_file(path) == {label.token: label for label in labels}
    record = json.loads(path.read_text())["b" * 16]
    assert record.keys() == EXAMPLE.keys()
    assert (record["ANC_result"], record["token"]) == ("C", "b" * 16)
    assert list(json.loads(path.read_text())) == ["a" * 16, "b" * 16, "c" * 16]


def test_two_labels_of_one_token_and_nan_are_refused(tmp_path):
    twice = [StyleDriveLabel("a", "normal"), StyleDriveLabel("a", "aggressive")]
    with pytest.raises(ValueError, match="token a has two labels"):
        write_styledrive_file(tmp_path / "x.json", twice)
    with pytest.raises(ValueError, match="JSON"):
        write_styledrive_file(
            tmp_path / "x.json", [StyleDriveLabel("a", "normal", None, {"v_avg": float("nan")})]
        )
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[1]", "holds no records by token"),
        ("{}", "holds no records by token"),
        ("{", "is no JSON"),
        ('{"a": 1}', "the record a of .* is no object"),
        ('{"a": {"ANC_result": "X"}}', "no ANC_result of A, N or C"),
        ('{"a": {}}', "no ANC_result of A, N or C"),
    ],
)
def test_what_is_no_label_file_is_refused(tmp_path, content, reason):
    path = tmp_path / "styletrain.json"
    path.write_text(content)
    with pytest.raises(InputError, match=reason):
        read_styledrive_file(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_styledrive_file(tmp_path / "nowhere.json")


def test_types_are_spelt_as_in_the_files():
    assert scenario_name("Carpark Areas") == "carpark areas"
    assert scenario_name("Protected Intersection") == "protected_intersections"
    assert scenario_name("side_ego_to_main") == "side_ego_to_main"
    assert scenario_name("roundout_interior") == "roundout_interior"
