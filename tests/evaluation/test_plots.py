from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

from bayfed.evaluation import plots
from bayfed.evaluation.colours import ColourScale
from bayfed.evaluation.summary import SiteLine

CURVES = (plots.loss_curve, plots.auroc_curve, plots.bytes_curve, plots.seconds_curve)
LINES = [
    SiteLine("nut", 0.6, 0.8),
    SiteLine("tile <b>&$x$", None, 0.7),
    SiteLine("wood", 0.9, None),
]


def line(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "round": number,
        "loss": 1.0 / number,
        "mean_image_auroc": 0.7 if number % 2 else None,
        "bytes_up": 10_000,
        "bytes_down": 20_000,
        "seconds_compute": 2.0,
        "seconds_overhead": 0.1,
        "clients": [{"name": name, "loss": 0.5} for name in ("a", "b")],
    } | changes


ROUNDS = [line(number) for number in range(1, 5)]


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("text")]


@pytest.mark.parametrize("draw", CURVES)
def test_curves_are_whole_and_need_nothing_outside(draw) -> None:
    svg = draw(ROUNDS)
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert "round" in texts(svg)
    assert not re.search(r"(href|src)=\"(?!#)", svg)
    assert not re.search(r"url\((?!#)", svg)


@pytest.mark.parametrize("draw", CURVES)
def test_colours_and_fonts_are_those_of_the_page(draw) -> None:
    svg = draw(ROUNDS)
    assert "var(--after" in svg
    assert "#0102" not in svg
    assert "DejaVu" not in svg


@pytest.mark.parametrize("draw", CURVES)
def test_drawing_is_reproducible_and_leaves_no_settings_behind(draw) -> None:
    before = dict(mpl.rcParams)
    assert draw(ROUNDS) == draw(ROUNDS)
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("draw", CURVES)
def test_gaps_in_the_history_are_left_open(draw) -> None:
    gaps = [line(1, loss=None, seconds_overhead=None), line(2, clients=None), line(3)]
    ElementTree.fromstring(draw(gaps))


def test_no_element_has_an_id_twice_within_a_page() -> None:
    page = "".join(draw(ROUNDS) for draw in CURVES) + plots.dumbbell(LINES)
    named = re.findall(r"<g id=", page)
    assert not named


def test_dumbbell_names_every_site_as_text() -> None:
    found = texts(plots.dumbbell(LINES))
    assert {"nut", "wood", "tile <b>&$x$", "control", "trained"} <= set(found)
    ElementTree.fromstring(plots.dumbbell([]))


def test_long_names_are_cut() -> None:
    assert any(text.endswith("…") for text in texts(plots.dumbbell([SiteLine("x" * 80, 0.5, 0.6)])))


@pytest.mark.parametrize(("threshold", "x"), [(0.0, 1.0), (5.0, 160.0), (10.0, 319.0)])
def test_the_colour_bar_marks_the_threshold(threshold: float, x: float) -> None:
    svg = plots.colour_bar(ColourScale(0.0, 10.0, threshold))
    assert f"M{x:.1f} 20V40" in svg
    assert f"threshold {threshold:g}" in texts(svg)


def test_a_threshold_off_the_scale_is_said_not_drawn() -> None:
    svg = plots.colour_bar(ColourScale(0.0, 10.0, 12.0))
    assert "20V40" not in svg
    assert "threshold 12, off the scale" in texts(svg)
    assert "threshold" not in plots.colour_bar(ColourScale(0.0, 10.0))
