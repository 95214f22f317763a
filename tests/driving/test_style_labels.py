"""Scene types, scales, style vectors, labels and their fusion."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import ArtifactMismatch, InputError
from data_prep.scenes.raw_scene import AREAS, ROAD_CLASSES
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS, STYLE_LABELS, StyleLabel
from driving.line_facts import LineFacts
from driving.style.fuse import fuse
from driving.style.label import Cut, aggressiveness, fit_cuts, labels
from driving.style.measures import MEASURE_NAMES, MEASURES, PLACE
from driving.style.scale import Context, StyleScale
from driving.style.scenario import SCENARIO_TYPES, Surroundings, scenario_type
from driving.style.surroundings import crosses_crosswalk, merging, surroundings
from driving.style.thresholds import Bound, read_thresholds
from driving.style.vector import DIMENSIONS, style_vector
from driving.world import LINE_CROSSWALK, World
from tests.driving.tiny_worlds import STEPS, straight, tiny_world

FREE = Context("lane_following", leader=False, road_class="urban")


def measured(**given: float) -> tuple[np.ndarray, np.ndarray]:
    """One sample of which only the given measures are known."""
    values = np.zeros((1, len(MEASURES)), dtype=np.float32)
    mask = np.zeros(values.shape, dtype=bool)
    for name, value in given.items():
        values[0, PLACE[name]], mask[0, PLACE[name]] = value, True
    return values, mask


def column_of(name: str, numbers: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Samples of which only one measure is known."""
    parts = [measured(**{name: number}) for number in numbers]
    return np.concatenate([v for v, _ in parts]), np.concatenate([m for _, m in parts])


@pytest.mark.parametrize(
    ("expected", "facts"),
    [
        ("lane_following", Surroundings()),
        ("carpark areas", Surroundings(areas=("parking", "none", "none"))),
        ("carpark areas", Surroundings(road_class="parking", changes_lane=True)),
        ("roundout_interior", Surroundings(areas=("roundabout", "none", "none"))),
        ("roundout_entrance", Surroundings(areas=("none", "none", "roundabout"))),
        ("side_ego_to_main", Surroundings(merges_into_main=True, changes_lane=True)),
        ("side_to_main_ego", Surroundings(others_merge=True)),
        ("lane_change", Surroundings(changes_lane=True, crosses_crosswalk=True)),
        (
            "protected_intersections",
            Surroundings(areas=("none", "intersection", "none"), has_signal=True),
        ),
        ("unprotected_intersections", Surroundings(areas=("none", "none", "intersection"))),
        ("crosswalks", Surroundings(crosses_crosswalk=True, road_class="rural")),
        ("countryside_road", Surroundings(road_class="rural")),
        ("special_interior_road", Surroundings(speed_limit_mps=5.5)),
        ("lane_following", Surroundings(speed_limit_mps=13.9, has_signal=True)),
    ],
)
def test_every_type_has_its_rule(expected: str, facts: Surroundings):
    assert scenario_type(facts)[0] == expected


def test_all_types_can_be_reached():
    reached = set()
    for areas in itertools.product(("none", "intersection", "roundabout", "parking"), repeat=3):
        for flags in itertools.product((False, True), repeat=5):
            for road in ROAD_CLASSES:
                facts = Surroundings(
                    road, (areas[0], areas[1], areas[2]), flags[0], flags[1], 5.0, *flags[2:]
                )
                reached.add(scenario_type(facts)[0])
    reached.add(scenario_type(Surroundings())[0])
    assert reached == set(SCENARIO_TYPES)


def line_facts(world: World, **changed: np.ndarray) -> LineFacts:
    """Nothing special about any line, but what is given."""
    lines, places = world.line_kinds.shape, world.route_mask.shape
    urban = ROAD_CLASSES.index("urban")
    plain = {
        "line_areas": np.zeros(lines, np.int64),
        "line_road_classes": np.full(lines, urban),
        "line_has_signal": np.zeros(lines, bool),
        "route_areas": np.zeros(places, np.int64),
        "route_road_classes": np.full(places, urban),
        "route_has_signal": np.zeros(places, bool),
        "route_merges": np.zeros(places, bool),
        "route_is_side": np.zeros(places, bool),
        "route_line_ids": np.zeros(places, np.int64),
    }
    return LineFacts(**(plain | changed))


def test_the_lane_at_the_end_and_beyond_is_looked_at():
    world = tiny_world(straight(10.0), lanes=(0.0, 0.0))
    lines = world.line_points.clone()
    lines[0, 0, :, 0] = torch.linspace(-100.0, 45.0, 41)  # the first ends at 45 m
    lines[0, 1, :, 0] = torch.linspace(45.0, 300.0, 41)  # the second begins there
    world = dataclasses.replace(world, line_points=lines)
    areas = np.array([[0, AREAS.index("roundabout")]])
    signal = np.array([[False, True]])
    facts = line_facts(world, line_areas=areas, line_has_signal=signal)
    (found,) = surroundings(world, facts, torch.tensor([False]))
    assert found.areas == ("none", "none", "roundabout")  # the end is at 40 m, 15 m on is beyond
    assert found.has_signal
    assert found.road_class == "urban"
    assert found.speed_limit_mps == 15.0


def test_a_crosswalk_across_the_way_is_found_and_one_beside_is_not():
    world = tiny_world(straight(10.0), lanes=(0.0, 3.5))
    for x, y, expected in ((52.0, -4.0, True), (58.0, -4.0, False), (20.0, 2.0, False)):
        lines = world.line_points.clone()
        ring = torch.tensor([[x, y], [x, y + 8.0], [x + 3, y + 8.0], [x + 3, y], [x, y]])
        lines[0, 1] = 0.0
        lines[0, 1, :5] = ring
        mask = world.line_mask.clone()
        mask[0, 1, 5:] = False
        kinds = torch.tensor([[0, LINE_CROSSWALK]])
        changed = dataclasses.replace(world, line_points=lines, line_mask=mask, line_kinds=kinds)
        way = torch.tensor([[[0.0, 0.0], [40.0, 0.0], [55.0, 0.0]]])
        assert crosses_crosswalk(changed, way).tolist() == [expected]


def merge_facts(world: World, *, side: bool) -> LineFacts:
    """The route's lane ends 20 m ahead and goes on in one that another lane leads into too."""
    x = world.route_points[0, :, 0].numpy()
    beyond = (x > 20.0)[None]
    return line_facts(
        world,
        route_line_ids=np.where(beyond, 2, 1),
        route_merges=beyond,
        route_is_side=~beyond & side,
    )


def test_an_ego_whose_lane_turns_into_another_one_merges():
    world = tiny_world(straight(10.0))
    driven = np.array([40.0])
    assert [x.tolist() for x in merging(world, merge_facts(world, side=True), driven)] == [
        [True],
        [False],
    ]
    assert [x.tolist() for x in merging(world, merge_facts(world, side=False), driven)] == [
        [False],
        [False],
    ]


def test_somebody_who_comes_in_from_beside_merges():
    coming = straight(10.0, x_m=15.0)
    coming[:, 1] = torch.linspace(5.0, 0.0, STEPS).clamp_max(4.0)
    world = tiny_world(straight(10.0), [coming])
    driven = np.array([40.0])
    assert merging(world, merge_facts(world, side=False), driven)[1].tolist() == [True]
    plain = line_facts(world)
    assert merging(world, plain, driven)[1].tolist() == [False]


def test_a_scale_by_hand():
    # 0, 1, ..., 100: median 50, quartiles 25 and 75
    values, mask = column_of("mean_speed_mps", [float(n) for n in range(101)])
    scale = StyleScale.fit(values, mask, [FREE] * 101)
    spread = scale.spreads["all"]["mean_speed_mps"]
    assert spread.median == 50
    assert spread.deviation == pytest.approx(50 / 1.349)
    deviations, known = scale.apply(*measured(mean_speed_mps=50 + 2 * 50 / 1.349), [FREE])
    assert deviations[0, PLACE["mean_speed_mps"]] == pytest.approx(2.0, rel=1e-5)
    assert known.sum() == 1
    far, _ = scale.apply(*measured(mean_speed_mps=1e6), [FREE])
    assert far.max() == 5.0


def test_rare_contexts_take_their_parents_statistics():
    values, mask = column_of("mean_speed_mps", [10.0] * 60 + [30.0] * 3)
    led = Context("lane_following", leader=True, road_class="rural")
    scale = StyleScale.fit(values, mask, [FREE] * 60 + [led] * 3, fewest_samples=50)
    place = PLACE["mean_speed_mps"]
    assert "leader" not in scale.spreads
    assert scale.spreads["lane_following"]["mean_speed_mps"].samples == 63
    same, _ = scale.apply(*measured(mean_speed_mps=10.0), [led])
    assert same[0, place] == 0.0
    unseen, known = scale.apply(*measured(time_gap_s=1.0), [led])
    assert not known.any()
    assert not unseen.any()


def test_a_narrow_context_stands_above_its_parents():
    rural = Context("lane_following", leader=False, road_class="rural")
    values, mask = column_of("mean_speed_mps", [10.0] * 60 + [25.0] * 60)
    scale = StyleScale.fit(values, mask, [FREE] * 60 + [rural] * 60, fewest_samples=50)
    for context, usual in ((FREE, 10.0), (rural, 25.0)):
        found, _ = scale.apply(*measured(mean_speed_mps=usual), [context])
        assert found[0, PLACE["mean_speed_mps"]] == 0.0


def test_equal_values_are_compared_by_the_noise_floor():
    values, mask = column_of("mean_speed_mps", [10.0] * 60)
    scale = StyleScale.fit(values, mask, [FREE] * 60)
    found, _ = scale.apply(*measured(mean_speed_mps=11.0), [FREE])
    assert found[0, PLACE["mean_speed_mps"]] == pytest.approx(2.0)  # the floor is 0.5 m/s


def test_who_never_had_to_brake_is_not_compared():
    place = PLACE["peak_braking_mps2"]
    values, mask = column_of("peak_braking_mps2", [0.1] * 200 + [2.0] * 60)
    scale = StyleScale.fit(values, mask, [FREE] * 260)
    assert scale.spreads["all"]["peak_braking_mps2"].median == 2.0
    assert scale.spreads["all"]["peak_braking_mps2"].samples == 60
    found, known = scale.apply(*column_of("peak_braking_mps2", [0.5, 2.2]), [FREE] * 2)
    assert known[:, place].tolist() == [False, True]
    assert found[:, place].tolist() == pytest.approx([0.0, 1.0], rel=1e-5)


def test_ratios_of_time_gaps_matter():
    gaps = np.exp(np.linspace(-1.0, 1.0, 101)).tolist()
    scale = StyleScale.fit(*column_of("time_gap_s", gaps), [FREE] * 101)
    place = PLACE["time_gap_s"]
    double = scale.apply(*measured(time_gap_s=2.0), [FREE])[0][0, place]
    half = scale.apply(*measured(time_gap_s=0.5), [FREE])[0][0, place]
    assert double == pytest.approx(-half, rel=1e-4)
    assert double == pytest.approx(np.log(2) * 1.349, rel=1e-3)  # quartiles at -0.5 and 0.5


@given(st.floats(0.1, 10.0), st.floats(-5.0, 5.0))
def test_units_do_not_matter(factor: float, shift: float):
    numbers = np.random.default_rng(3).normal(20, 8, 200)
    scale = StyleScale.fit(*column_of("mean_speed_mps", numbers.tolist()), [FREE] * 200)
    moved = (numbers * factor + shift).tolist()
    other = StyleScale.fit(*column_of("mean_speed_mps", moved), [FREE] * 200)
    a = scale.spreads["all"]["mean_speed_mps"]
    b = other.spreads["all"]["mean_speed_mps"]
    assert b.median == pytest.approx(a.median * factor + shift, rel=1e-4, abs=1e-4)
    assert b.deviation == pytest.approx(max(a.deviation * factor, 0.5), rel=1e-4)


def test_a_scale_survives_json():
    values, mask = column_of("mean_speed_mps", [float(n) for n in range(60)])
    scale = StyleScale.fit(values, mask, [FREE] * 60)
    again = StyleScale.from_json(json.loads(json.dumps(scale.to_json())))
    assert again == scale
    for broken in ({}, {"fewest_samples": 3}, {"median_deviation_samples": {"all": {"x": [1]}}}):
        with pytest.raises(ArtifactMismatch, match="no style scale"):
            StyleScale.from_json(broken)


def test_a_scale_needs_a_context_per_sample():
    with pytest.raises(ValueError, match="2 samples need as many contexts, got 1"):
        StyleScale.fit(*column_of("mean_speed_mps", [1.0, 2.0]), [FREE])


def deviating(**given: float) -> tuple[np.ndarray, np.ndarray]:
    """The style vector of a window with these deviations, which drives fast enough to count."""
    values, mask = measured(peak_speed_mps=9.0, **dict.fromkeys(given, 1.0))
    deviations, known = measured(**given)
    style, there = style_vector(values, mask, deviations, known)
    return style[0], there[0]


def test_every_dimension_is_read_from_known_measures():
    assert tuple(DIMENSIONS) == STYLE_DIMENSIONS
    for dimension in DIMENSIONS.values():
        assert set(dimension.parts) <= set(MEASURE_NAMES)


def test_a_style_vector_by_hand():
    style, there = deviating(free_speed_mps=1.0, free_speed_to_limit=3.0, mean_speed_mps=-4.0)
    assert style[STYLE_DIMENSIONS.index("speed")] == pytest.approx(np.tanh(1.0))
    style, there = deviating(mean_speed_mps=1.0, speed_to_limit=3.0, rear_gap_m=2.0)
    speed, change = (STYLE_DIMENSIONS.index(n) for n in ("speed", "lane_change_assertiveness"))
    assert style[speed] == pytest.approx(np.tanh(1.0))  # mean deviation 2, halved
    assert there.tolist() == [number == speed for number in range(8)]
    style, there = deviating(lane_change_peak_speed_mps=1.0, rear_gap_m=2.0)
    assert style[change] == pytest.approx(np.tanh(-0.25))  # 1 and -2: a long gap is careful
    assert there[change]
    assert there[STYLE_DIMENSIONS.index("lateral_acceleration")] == np.False_


def test_a_driver_who_stands_has_no_style():
    values, mask = measured(peak_speed_mps=0.4, mean_speed_mps=0.2, peak_braking_mps2=0.0)
    style, there = style_vector(values, mask, values, mask)
    assert not there.any()
    assert not style.any()


def test_lateral_acceleration_needs_a_bend():
    place = STYLE_DIMENSIONS.index("lateral_acceleration")
    for turn, expected in ((0.2, False), (0.4, True)):
        values, mask = measured(heading_change_rad=turn, peak_lateral_acceleration_mps2=1.0)
        assert style_vector(values, mask, values, mask)[1][0, place] == expected


THRESHOLDS = read_thresholds(None)


def test_aggressiveness_turns_every_dimension():
    style = np.zeros((3, 8), dtype=np.float32)
    there = np.zeros((3, 8), dtype=bool)
    speed, gap = STYLE_DIMENSIONS.index("speed"), STYLE_DIMENSIONS.index("time_gap")
    there[:2, [speed, gap]] = True
    style[0, speed], style[0, gap] = 0.6, -0.4  # fast and close
    style[1, speed], style[1, gap] = 0.6, 0.4  # fast and far
    there[2, STYLE_DIMENSIONS.index("jerk")] = True  # 0.5 of 6.5: less than a fifth
    score, enough = aggressiveness(style, there, ["lane_following"] * 3, THRESHOLDS)
    assert score[:2] == pytest.approx([0.5, 0.1])
    assert enough.tolist() == [True, True, False]


def test_cuts_are_percentiles_and_rare_types_are_pooled():
    scores = np.linspace(0.0, 1.0, 301)
    types = ["lane_following"] * 300 + ["lane_change"]
    cuts = fit_cuts(scores, np.ones(301, bool), types, THRESHOLDS)
    assert set(cuts) == {"all", "lane_following"}
    assert cuts["all"].aggressive == pytest.approx(0.85)
    assert cuts["all"].conservative == pytest.approx(0.05)
    assert cuts["lane_following"].aggressive < 0.85
    assert fit_cuts(scores[:0], np.ones(0, bool), [], THRESHOLDS)["all"].samples == 0


def one_label(score: float, enough: bool = True, **given: float) -> tuple[str, str]:
    values, mask = measured(**given)
    style = np.zeros((1, 8), dtype=np.float32)
    style[0, 0] = score
    cuts = {"all": Cut(-0.4, 0.5, "all", 10)}
    (found,) = labels(
        np.array([score]),
        np.array([enough]),
        style,
        ["lane_following"],
        (values, mask),
        cuts=cuts,
        thresholds=THRESHOLDS,
    )
    return found.label, found.rule


def test_labels_say_which_rule_fired():
    assert one_label(0.6)[0] == "aggressive"
    assert "0.60 is above 0.50, percentile 85 of all types: speed +0.60" in one_label(0.6)[1]
    assert one_label(-0.6)[0] == "conservative"
    assert one_label(0.5)[0] == one_label(-0.4)[0] == "normal"
    assert one_label(0.9, enough=False) == ("normal", "too little was measured")
    assert one_label(-0.6, smallest_time_to_collision_s=0.8) == (
        "aggressive",
        "smallest_time_to_collision_s 0.80 is below 1",
    )
    assert one_label(-0.6, smallest_time_to_collision_s=1.2)[0] == "conservative"
    assert one_label(0.0, speed_to_limit=1.4)[0] == "aggressive"


def test_the_default_shares_are_those_of_the_percentiles():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=2000)
    types = ["lane_following"] * 2000
    enough = np.ones(2000, bool)
    cuts = fit_cuts(scores, enough, types, THRESHOLDS)
    nothing = np.zeros((2000, len(MEASURES)), dtype=np.float32)
    found = labels(
        scores,
        enough,
        np.zeros((2000, 8), dtype=np.float32),
        types,
        (nothing, nothing.astype(bool)),
        cuts=cuts,
        thresholds=THRESHOLDS,
    )
    share = {name: sum(one.label == name for one in found) / 2000 for name in STYLE_LABELS}
    assert share == pytest.approx({"conservative": 0.05, "normal": 0.8, "aggressive": 0.15})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weights: {", "is no YAML"),
        ("weights: {}", "weights must have an entry all"),
        ("weights: {all: {sped: 1}}", "sped is no style dimension"),
        ("weights: {all: {speed: 1}, moon: {speed: 1}}", "moon is no scenario type"),
        ("weights: {all: {speed: -1}}", "must not be negative"),
        ("aggressive_percentile: 20", "aggressive_percentile"),
        ("bounds: [{measure: time_gap_s, label: aggressive}]", "give either below or above"),
        ("bounds: [{measure: magic, below: 1, label: aggressive}]", "bounds.0.measure"),
        ("more: 1", "more"),
    ],
)
def test_bad_thresholds_are_one_sentence(tmp_path: Path, text: str, message: str):
    rest = {
        "weights": "weights: {all: {speed: 1}}",
        "aggressive_percentile": "aggressive_percentile: 85",
        "conservative_percentile": "conservative_percentile: 5",
        "fewest_samples": "fewest_samples: 10",
        "least_share": "least_share: 0.2",
        "fewest_samples_of_scale": "fewest_samples_of_scale: 10",
    }
    rest.pop(text.split(":", maxsplit=1)[0], None)
    path = tmp_path / "thresholds.yaml"
    path.write_text("\n".join([*rest.values(), text]))
    with pytest.raises(InputError, match=message):
        read_thresholds(path)


def test_a_missing_file_of_thresholds_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="name a file with --thresholds"):
        read_thresholds(tmp_path / "none.yaml")


def test_bounds_hold_on_their_side():
    assert Bound(measure="time_gap_s", label="aggressive", below=1).holds(0.9)
    assert not Bound(measure="time_gap_s", label="aggressive", above=1).holds(0.9)


def test_fusion_is_the_table_of_the_paper():
    expected: dict[tuple[StyleLabel, StyleLabel], tuple[str, bool]] = {
        ("aggressive", "aggressive"): ("aggressive", False),
        ("aggressive", "normal"): ("aggressive", True),
        ("aggressive", "conservative"): ("aggressive", True),
        ("normal", "aggressive"): ("aggressive", True),
        ("normal", "normal"): ("normal", False),
        ("normal", "conservative"): ("normal", True),
        ("conservative", "aggressive"): ("aggressive", True),
        ("conservative", "normal"): ("normal", True),
        ("conservative", "conservative"): ("conservative", False),
    }
    for (ours, theirs), (label, check) in expected.items():
        found = fuse(ours, theirs)
        assert (found.label, found.needs_check) == (label, check)
    assert fuse("conservative", None).label == "conservative"
