"""Our planners as nuPlan's: what they see, how a plan goes on, and the devkit's own closed loop."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data_prep.errors import InputError
from driving.planner.idm import Idm
from driving.planner.planner import Planner, Plans
from driving.planner_input import planner_input
from driving.simulation.nuplan import (
    NuPlanDriver,
    nuplan_planner,
    read_history,
    style_condition,
)
from driving.simulation.nuplan_view import (
    RoadView,
    longer_plan,
    newest,
    rear_motion,
    route_ahead,
)
from driving.world import AGENT_STATIC, AGENT_VEHICLE, LIGHT_NONE, LIGHT_RED
from tests.data_prep.scenes.synthetic_nuplan import (
    LOG,
    REAR_AXLE_TO_CENTRE_M,
    ROADBLOCKS,
    write_database,
)
from tests.data_prep.scenes.synthetic_nuplan_map import (
    LOCATION,
    RIGHT_LIMIT_MPS,
    TURN_RAD,
    placed,
    write_maps,
)
from tests.driving.devkit_loop import (
    devkit_scores,
    drive,
    driven,
    mend_tracker,
    our_scores,
    scenario,
)

HAS_DEVKIT = importlib.util.find_spec("nuplan") is not None
needs_devkit = pytest.mark.skipif(not HAS_DEVKIT, reason="nuplan-devkit is not installed")


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return write_maps(tmp_path_factory.mktemp("maps"))


def _named(**attributes):
    return SimpleNamespace(**attributes)


def _ego(x, y=-1.75, heading=0.0, speed=8.0, time_s=0.0):
    """An ego state as the devkit has them, its box's centre at a place of the road."""
    place = placed((x, y))
    return _named(
        center=_named(x=place[0], y=place[1], heading=heading + TURN_RAD),
        dynamic_car_state=_named(center_velocity_2d=_named(x=speed, y=0.5)),
        car_footprint=_named(length=5.176, width=2.297),
        time_us=round(1.6e15 + time_s * 1e6),
    )


def _object(key, kind, x, y, speed=None):
    place = placed((x, y))
    each = _named(
        track_token=key,
        tracked_object_type=_named(name=kind),
        center=_named(x=place[0], y=place[1], heading=TURN_RAD),
        box=_named(length=4.6, width=1.9),
    )
    if speed is not None:
        each.velocity = _named(x=speed * np.cos(TURN_RAD), y=speed * np.sin(TURN_RAD))
    return each


def _current(lights=(), steps=12, step_s=0.1):
    """A history in which the ego and a leader drive 8 m/s, and a cone appears at the end."""
    egos, observations = [], []
    for at in range(steps):
        time_s = at * step_s
        egos.append(_ego(-60.0 + 8.0 * time_s, time_s=time_s))
        objects = [_object("lead", "VEHICLE", -30.0 + 8.0 * time_s, -1.75, 8.0)]
        if at >= steps - 3:
            objects.append(_object("cone", "TRAFFIC_CONE", -45.0, -5.0))
        tracked = _named(tracked_objects=objects)
        observations.append(_named(tracked_objects=tracked))
    data = [_named(lane_connector_id=i, status=_named(name=name)) for i, name in lights]
    return _named(
        history=_named(ego_states=egos, observations=observations), traffic_light_data=data
    )


def _view(maps, place):
    from data_prep.scenes.nuplan_map import NuPlanMaps

    return RoadView.around(NuPlanMaps(maps).location(LOCATION), ROADBLOCKS, placed(place))


def test_a_planner_sees_the_ego_at_its_origin_and_the_others_around_it(maps):
    history = read_history(_current())
    world = _view(maps, (-60.0, -1.75)).world(history)
    scene = planner_input(world, world.now)
    assert scene.ego_history[0, -1].tolist() == pytest.approx([0.0, 0.0, 0.0, 8.0], abs=1e-4)
    assert scene.ego_history[0, 0].tolist() == pytest.approx([-8.0, 0.0, 0.0, 8.0], abs=1e-4)
    assert bool(scene.ego_history_mask.all())
    assert scene.agent_kinds[0, :2].tolist() == [AGENT_STATIC, AGENT_VEHICLE]
    cone, lead = scene.agents[0, :2, -1].tolist()
    assert cone == pytest.approx([6.2, -3.25, 0.0, 0.0, 0.0], abs=1e-4)
    assert lead == pytest.approx([30.0, 0.0, 0.0, 8.0, 0.0], abs=1e-4)
    assert scene.agent_mask[0, 0].tolist() == [False] * 8 + [True] * 3
    assert scene.agent_sizes_m[0, 1].tolist() == pytest.approx([4.6, 1.9])
    assert scene.ego_size_m[0].tolist() == pytest.approx([5.176, 2.297])


def test_a_planner_sees_route_limits_and_lights(maps):
    view = _view(maps, (-60.0, -1.75))
    world = view.world(read_history(_current([(3002, "RED"), (3001, "UNKNOWN"), (77, "RED")])))
    scene = planner_input(world, world.now)
    route = scene.route[0][scene.route_mask[0]]
    assert route[:, 1].abs().max() < 1e-3
    assert route[0, 0].item() == pytest.approx(-10.0, abs=2.5)
    assert torch.allclose(route[:, 0].diff(), torch.tensor(2.5), atol=1e-3)
    assert scene.route_limits_mps[0, :5].tolist() == pytest.approx([RIGHT_LIMIT_MPS] * 5)
    # The ego is 51.2 m from the crossing, which is 20 m long.
    red = route[scene.route_lights[0][scene.route_mask[0]] == LIGHT_RED, 0]
    assert red.min().item() == pytest.approx(51.2, abs=2.6)
    assert red.max().item() == pytest.approx(71.2, abs=2.6)
    dark = _view(maps, (-60.0, -1.75)).world(read_history(_current([(3002, "UNKNOWN")])))
    assert (dark.route_lights == LIGHT_NONE).all()


def test_the_history_is_picked_by_time():
    assert newest([0.05 * at for at in range(30)]) == list(range(9, 30, 2))
    assert newest([0.0, 0.1, 0.2]) == [None] * 8 + [0, 1, 2]
    assert newest([-0.5, 0.0]) == [None] * 5 + [0] + [None] * 4 + [1]
    history = read_history(_current(steps=4))
    assert history.mask[0].tolist() == [False] * 7 + [True] * 4
    assert (history.states[:, :7] == 0).all()
    velocity = history.states[0, -1, 3:]
    cosine, sine = np.cos(TURN_RAD), np.sin(TURN_RAD)
    expected = [8.0 * cosine - 0.5 * sine, 8.0 * sine + 0.5 * cosine]
    assert velocity == pytest.approx(expected)


def test_a_view_is_kept_until_the_ego_has_moved_away(maps):
    view = _view(maps, (-60.0, -1.75))
    assert view.covers(placed((-1.0, -1.75)))
    assert not view.covers(placed((1.0, -1.75)))


def _straight_plan(speed_mps=4.0, heading=0.0, aside_m=0.0):
    time_s = 0.5 * np.arange(1, 9)
    x, y = speed_mps * time_s * np.cos(heading), speed_mps * time_s * np.sin(heading)
    return np.stack([x, y + aside_m, np.full(8, heading)], -1)


def test_a_plan_goes_on_straight_where_no_route_leads():
    longer = longer_plan(_straight_plan(heading=0.3), np.zeros((0, 2)), count=16)
    assert longer == pytest.approx(np.concatenate([_straight_plan(heading=0.3), np.stack(
        [4.0 * np.arange(4.5, 8.1, 0.5) * np.cos(0.3),
         4.0 * np.arange(4.5, 8.1, 0.5) * np.sin(0.3), np.full(8, 0.3)], -1)]))  # fmt: skip


def test_a_plan_goes_on_beside_the_route_it_follows():
    # The route turns left by a right angle at x = 20 on a circle of 10 m; the plan is half a
    # metre to its right and ends at x = 16.
    angles = np.linspace(-np.pi / 2, 0.0, 200)
    bend = np.stack([20 + 10 * np.cos(angles), 10 + 10 * np.sin(angles)], -1)
    route = np.concatenate([[[-10.0, 0.0], [0.0, 0.0]], bend, [[30.0, 40.0]]])
    longer = longer_plan(_straight_plan(aside_m=-0.5), route, count=16)
    assert longer[8, :2] == pytest.approx([18.0, -0.5], abs=1e-3)
    assert longer[9, :2] == pytest.approx([20.0, -0.5], abs=0.02)
    radius = np.hypot(longer[10:15, 0] - 20.0, longer[10:15, 1] - 10.0)
    assert radius == pytest.approx(np.full(5, 10.5), abs=0.05)
    assert np.diff(longer[10:15, 2]) == pytest.approx(np.full(4, 0.2), abs=0.02)
    assert longer[-1, 2] == pytest.approx(1.2, abs=0.05)


def test_a_plan_does_not_follow_a_route_that_it_has_left_or_that_ends():
    far = np.stack([np.linspace(-10, 100, 50), np.full(50, 9.0)], -1)
    crossing = np.stack([np.full(50, 16.0), np.linspace(-50, 50, 50)], -1)
    for route in (far, crossing, far[:1]):
        assert longer_plan(_straight_plan(), route, count=16)[8:, 1] == pytest.approx(np.zeros(8))
    short = np.array([[-10.0, 0.0], [21.0, 0.0]])
    longer = longer_plan(_straight_plan(aside_m=0.5), short, count=16)
    assert longer[8:, 0] == pytest.approx(np.arange(18.0, 33.0, 2.0))
    assert longer[8:, 1] == pytest.approx(np.full(8, 0.5))


def test_a_plan_that_stands_or_rolls_back_goes_on_standing():
    still = np.tile([3.0, 1.0, 0.2], (8, 1))
    assert longer_plan(still, np.zeros((0, 2)), count=16) == pytest.approx(
        np.tile([3.0, 1.0, 0.2], (16, 1))
    )
    back = _straight_plan(-1.0)
    assert longer_plan(back, np.zeros((0, 2)), count=16)[-1] == pytest.approx(back[-1])


def test_the_rear_axle_of_a_straight_plan():
    motion = rear_motion(_straight_plan(4.0), np.array([10.0, 20.0, np.pi / 2]))
    rear = 20.0 - REAR_AXLE_TO_CENTRE_M
    assert motion.poses[:, 0] == pytest.approx(np.full(9, 10.0))
    assert motion.poses[:, 1] == pytest.approx(rear + 2.0 * np.arange(9))
    assert motion.poses[:, 2] == pytest.approx(np.full(9, np.pi / 2))
    assert motion.speed_mps == pytest.approx(np.full(9, 4.0))
    assert motion.acceleration_mps2 == pytest.approx(np.zeros(9), abs=1e-9)


def test_the_rear_axle_of_a_turn_about_it_stays_where_it_is():
    heading = 0.1 * np.arange(1, 9)
    reach = REAR_AXLE_TO_CENTRE_M
    centres = np.stack([reach * np.cos(heading) - reach, reach * np.sin(heading), heading], -1)
    motion = rear_motion(centres, np.array([5.0, 6.0, 3.0]))
    assert motion.poses[:, :2] == pytest.approx(np.tile(motion.poses[0, :2], (9, 1)))
    assert motion.yaw_rate_radps == pytest.approx(np.full(9, 0.2))
    assert motion.poses[-1, 2] == pytest.approx(3.8)


class _Recorder(Planner):
    """Plans straight on and keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def plan(self, scene, style, *, seed=0):
        self.asked.append((scene, style, seed))
        poses = torch.tensor(_straight_plan(), dtype=torch.float32)[None, None]
        return Plans(poses, torch.zeros(1, 1))


class _Blind(Planner):
    """Wants a speed at once, on a circle, whatever is there."""

    def __init__(self, turn_per_s, speed_mps):
        self.turn_per_s, self.speed_mps = turn_per_s, speed_mps

    def plan(self, scene, style, *, seed=0):
        poses = _straight_plan(self.speed_mps)
        poses[:, 2] = self.turn_per_s * 0.5 * np.arange(1, 9)
        poses[:, 1] = self.speed_mps * self.turn_per_s * (0.5 * np.arange(1, 9)) ** 2 / 2
        return Plans(torch.tensor(poses, dtype=torch.float32)[None, None], torch.zeros(1, 1))


def test_a_driver_asks_for_a_style_and_plans_eight_seconds(maps):
    planner = _Recorder()
    driver = NuPlanDriver(planner, maps, style={"speed": -0.5, "time_gap": 1.0}, seed=7)
    driver.start(LOCATION, list(ROADBLOCKS))
    driver.plan(read_history(_current()))
    poses = driver.plan(read_history(_current()))
    assert poses.shape == (16, 3)
    assert poses[-1] == pytest.approx([32.0, 0.0, 0.0], abs=1e-3)
    assert [seed for *_, seed in planner.asked] == [7, 8]
    style = planner.asked[0][1]
    assert style.values[0].tolist() == [-0.5, 1.0] + [0.0] * 6
    assert style.mask[0].tolist() == [True, True] + [False] * 6


def test_a_red_light_makes_a_planner_stop_before_the_crossing(maps):
    ends = {}
    for status in ("RED", "GREEN"):
        driver = NuPlanDriver(Idm(), maps)
        driver.start(LOCATION, list(ROADBLOCKS))
        current = _current([(3002, status)])
        for ego in current.history.ego_states:  # 30 m before the crossing, with a free road
            ego.center.x, ego.center.y = placed((-30.0, -1.75))
        for seen in current.history.observations:
            seen.tracked_objects.tracked_objects = []
        ends[status] = driver.plan(read_history(current))[7, 0]
    assert ends["RED"] < 30.0
    assert ends["GREEN"] > 31.0


def test_a_style_must_have_known_names_and_values():
    with pytest.raises(ValueError, match="'pace' is no style dimension"):
        style_condition({"pace": 1.0})
    with pytest.raises(ValueError, match=r"speed must lie in -1 to 1, got 1\.5"):
        style_condition({"speed": 1.5})


@pytest.mark.skipif(HAS_DEVKIT, reason="nuplan-devkit is installed")
def test_without_the_devkit_the_error_says_how_to_get_it(maps):
    with pytest.raises(InputError, match="how to install it from source beside the extra"):
        nuplan_planner(Idm(), maps)


def _in_devkit(maps, tmp_path, monkeypatch, planner, duration_s):
    """How a planner drives, and what the devkit's metrics and ours say of it."""
    monkeypatch.setenv("NUPLAN_DATA_ROOT", str(tmp_path))
    monkeypatch.setenv("NUPLAN_MAPS_ROOT", str(maps))
    mend_tracker(monkeypatch)
    database = write_database(tmp_path / f"{LOG}.db")
    case = scenario(database, maps, duration_s=duration_s)
    history = drive(case, nuplan_planner(planner, maps))
    ours = our_scores(tmp_path / "scenes", database, maps, history)
    return driven(history), devkit_scores(case, history), ours


@needs_devkit
def test_fifteen_seconds_in_the_devkits_own_closed_loop(maps, tmp_path, monkeypatch):
    rows, theirs, ours = _in_devkit(maps, tmp_path, monkeypatch, Idm(), 15.0)
    assert rows[-1, 0] == pytest.approx(14.9, abs=0.11)
    assert rows[0, 1] == pytest.approx(-95.0 + REAR_AXLE_TO_CENTRE_M, abs=1e-3)
    assert np.abs(rows[:, 2] + 1.75).max() < 0.3
    assert np.abs(rows[:, 3]).max() < 0.05
    assert 100.0 < rows[-1, 1] - rows[0, 1] < 15.0 * RIGHT_LIMIT_MPS
    assert theirs == {"comfort": 1.0, "drivable_area": 1.0, "no_collision": 1.0}
    assert ours == theirs


@needs_devkit
@pytest.mark.parametrize(
    ("turn_per_s", "speed_mps", "bad"),
    [(0.05, 10.0, "drivable_area"), (0.0, 22.0, "no_collision"), (0.0, 1.0, "comfort")],
)
def test_the_devkit_and_we_find_the_same_faults(
    maps, tmp_path, monkeypatch, turn_per_s, speed_mps, bad
):
    planner = _Blind(turn_per_s, speed_mps)
    _, theirs, ours = _in_devkit(maps, tmp_path, monkeypatch, planner, 5.0)
    assert theirs[bad] == 0.0
    assert ours == theirs


def test_the_route_ahead_is_that_of_the_world(maps):
    world = _view(maps, (-60.0, -1.75)).world(read_history(_current()))
    route = route_ahead(world)
    assert len(route) > 40
    assert route[:, 1] == pytest.approx(np.zeros(len(route)), abs=1e-3)
