"""Parts of a scene's vector: styles as inner products, and the words of a window."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from driving.scene_layout import STYLE_WIDTH, SceneLayout, style_numbers, style_question
from driving.style.describe import Neighbours
from driving.style.words import Window, in_words

VALUES = arrays(np.float64, 8, elements=st.floats(-1, 1, width=32))
MASKS = arrays(np.bool_, 8)


def one(**values: float) -> tuple[np.ndarray, np.ndarray]:
    places = {"speed": 0, "time_gap": 1, "braking": 3}
    style, mask = np.zeros(8), np.zeros(8, np.bool_)
    for name, value in values.items():
        style[places[name]], mask[places[name]] = value, True
    return style, mask


def similarity(question: tuple, shown: tuple) -> float:
    numbers = style_numbers(shown[0][None], shown[1][None])[0]
    return float(numbers @ style_question(*question))


def test_similarities_by_hand():
    shown = one(speed=0.5, time_gap=-1.0)
    assert similarity(one(speed=0.5), shown) == pytest.approx(1.0)
    assert similarity(one(speed=-0.5), shown) == pytest.approx(0.75)
    assert similarity(one(time_gap=1.0), shown) == pytest.approx(0.0)
    assert similarity(one(speed=0.5, time_gap=1.0), shown) == pytest.approx(0.5)
    assert similarity(one(braking=0.9), shown) == 0.0, "what was not measured is as far as can be"
    assert similarity(one(speed=0.0), one(speed=-0.6)) == pytest.approx(0.91)


@given(VALUES, MASKS, VALUES, MASKS)
def test_the_inner_product_is_the_mean_similarity(wanted, asked, values, mask):
    if not asked.any():
        with pytest.raises(ValueError, match="at least one dimension"):
            style_question(wanted, asked)
        return
    each = np.where(mask, 1 - (wanted - values) ** 2 / 4, 0.0)[asked]
    assert similarity((wanted, asked), (values, mask)) == pytest.approx(each.mean(), abs=1e-5)


def test_the_parts_lie_side_by_side():
    layout = SceneLayout(text=384, scene=128)
    assert layout.width == 384 + 24 + 128
    assert (layout.text_part, layout.style_part, layout.scene_part) == (
        slice(0, 384), slice(384, 408), slice(408, 536)
    )  # fmt: skip
    assert STYLE_WIDTH == 24


def window(**changes: Any) -> Window:
    facts: dict[str, Any] = {
        "scenario_type": "lane_following", "road_class": "urban", "label": "normal",
        "leader": False, "measures": {"mean_speed_mps": 10.0, "peak_speed_mps": 12.0},
        "style": {}, "neighbours": Neighbours(0, 0, 0),
    }  # fmt: skip
    moved = changes.pop("measures", {})
    return Window(**facts | changes | {"measures": facts["measures"] | moved})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Normal driving on a road. An empty road without other vehicles."),
        (
            {"scenario_type": "roundout_interior", "label": "aggressive",
             "neighbours": Neighbours(12, 1, 2), "measures": {"heading_change_rad": 1.2}},
            "Aggressive driving inside a roundabout. Heavy traffic with many vehicles near, and "
            "pedestrians and cyclists.",
        ),
        (
            {"scenario_type": "protected_intersections", "leader": True,
             "measures": {"mean_speed_mps": 0.1, "peak_speed_mps": 0.4}},
            "Normal driving at an intersection with traffic lights. The vehicle is stopped at a "
            "traffic light and waits. Hardly any traffic.",
        ),
        (
            {"scenario_type": "lane_change", "road_class": "motorway", "label": "aggressive",
             "leader": True, "neighbours": Neighbours(4, 0, 0),
             "measures": {"lane_change_peak_speed_mps": 1.0, "time_gap_s": 0.9},
             "style": {"lane_change_assertiveness": 0.7, "speed": -0.39}},
            "An aggressive lane change overtaking on a highway, a motorway. It is following the "
            "vehicle ahead very closely, tailgating with a short time gap. Some traffic, with "
            "other vehicles near. The driver cuts in assertively.",
        ),
        (
            {"leader": True, "neighbours": Neighbours(3, 0, 0), "style": {"speed": 0.4, "jerk": -1},
             "measures": {"time_gap_s": 2.5, "peak_braking_mps2": 3.1, "speed_to_limit": 1.2}},
            "Normal driving, speeding above the limit on a road. Hard braking. It keeps a long "
            "distance to the vehicle ahead. Little traffic, a few vehicles near. The driver drives "
            "faster than most and drives smoothly.",
        ),
        (
            {"leader": True, "neighbours": Neighbours(20, 0, 0),
             "measures": {"mean_speed_mps": 2.0, "heading_change_rad": 0.9}},
            "Normal driving, turning on a road. Stop and go in a traffic jam. Another vehicle is "
            "ahead. Heavy traffic with many vehicles near.",
        ),
    ],
)  # fmt: skip
def test_windows_in_words(changes, said):
    assert in_words(window(**changes)) == said
