"""The figures: every value is there, in its place, and nothing overlaps."""

import re
from itertools import pairwise

from personalize.report.words import DASH
from personalize.steerability.pictures import (
    Curve,
    Spent,
    cost_against_gain,
    dose_curves,
    heat_map,
)


def point(value: float) -> dict:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def test_a_heat_map_has_a_cell_for_every_value_coloured_by_sign_and_size():
    values = [[1.0, -0.5, None], [-0.001, 0.25, 2.0], [0.0, 0.0, 0.0]]
    names = ["peak_jerk", "b<", "c"]
    picture = heat_map(values, names, title="t", tips=lambda row, column: f"{row}/{column}")
    shown = re.findall(
        r"<g class=\"c(\d)\">.*?fill-opacity=\"([\d.]+)\".*?middle\">(.*?)<", picture
    )
    assert [cell[0] for cell in shown[:6]] == ["0", "1", "0", "1", "0", "0"]
    assert [float(cell[1]) for cell in shown[:3]] == [0.75, 0.375, 0.0]
    assert float(shown[5][1]) == 0.75
    assert [cell[2] for cell in shown[2:5]] == [DASH, "0.00", "0.25"]
    assert "peak jerk" in picture
    assert "b&lt;" in picture
    assert "<title>1/2</title>" in picture


def test_dose_curves_skip_what_is_not_known_and_mark_what_was_taken():
    curves = [Curve("gain", 0, [point(0.2), None, point(1.4)]), Curve("kept", 4, [None] * 3)]
    picture = dose_curves(curves, [1.0, 3.0, 10.0], chosen=2, title="t")
    assert picture.count('class="whisker"') == 2
    assert picture.count("<title>taken</title>") == 1
    assert ">10<" in picture
    assert "<title>taken</title>" not in dose_curves(
        curves, [1.0, 3.0, 10.0], chosen=None, title=""
    )


def test_labels_of_cost_lie_apart():
    spent = [Spent(name, 4.0, point(0.5), n) for n, name in enumerate(("a", "b", "c"))]
    picture = cost_against_gain([*spent, Spent("d", 64.0, point(-0.4), 3)], title="t")
    places = [float(y) for y in re.findall(r"y=\"([\d.]+)\" class=\"value\"", picture)]
    assert len(places) == 4
    ordered = sorted(places)
    assert min(b - a for a, b in pairwise(ordered)) >= 14
    assert ">64<" in picture
