from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bayfed.evaluation.colours import CONTOUR, OUTLINE, ColourScale, surprise_colours
from bayfed.inference.inspection import Decision, Inspection, Region
from bayfed.inference.overlay import LARGEST, LEGEND, NARROWEST, SMALLEST, overlay

SCALE = ColourScale(0.0, 4.0, threshold=2.0)
GREY = np.full((400, 400, 3), 128, np.uint8)


def seen(surprise: NDArray[np.float32] | None, *regions: Region) -> Inspection:
    return Inspection(1.0, 0.0, 0.5, 0.2, Decision.OK, surprise, regions)


def flat(value: float, side: int = 8) -> NDArray[np.float32]:
    return np.full((side, side), value, np.float32)


def is_colour(image: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    return (image == np.array(colour)).all(axis=2)


@pytest.mark.parametrize("surprise", [0.0, 1.0, 1.9])
def test_a_surprise_has_the_colour_that_the_product_gives_it(surprise: float) -> None:
    drawn = overlay(GREY, seen(flat(surprise)), SCALE, legend=False)
    expected = surprise_colours(np.array(surprise / 4.0), 128 / 255)
    assert drawn.shape == GREY.shape
    assert (drawn == expected).all()


def test_what_else_is_in_the_image_changes_no_colour() -> None:
    mixed = flat(1.0)
    mixed[:, 6:] = 3.9
    alone, beside = (overlay(GREY, seen(m), SCALE, legend=False) for m in (flat(1.0), mixed))
    assert (alone[:, :250] == beside[:, :250]).all()


def test_the_white_line_is_drawn_at_the_threshold_and_inside_of_it_only() -> None:
    spot = flat(0.0, 40)
    spot[10:30, 10:30] = 3.9
    line = is_colour(overlay(GREY, seen(spot), SCALE, legend=False), CONTOUR)
    rows, columns = np.nonzero(line)
    assert 95 <= rows.min() <= 105
    assert 295 <= columns.max() <= 305
    assert not line[120:280, 120:280].any()
    below = overlay(GREY, seen(np.minimum(spot, 1.99)), SCALE, legend=False)
    assert not is_colour(below, CONTOUR).any()


@pytest.mark.parametrize(("side", "ratio"), [(160, 2.0), (400, 1.0), (2048, 0.5)])
def test_a_region_s_box_lies_where_it_is_in_the_image(side: int, ratio: float) -> None:
    image = np.zeros((side, side, 3), np.uint8)
    region = Region(x=40, y=20, width=60, height=80, area=9, peak=3.0)
    drawn = overlay(image, seen(flat(0.0), region), SCALE, legend=False)
    rows, columns = np.nonzero(is_colour(drawn, OUTLINE))
    found = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert found == tuple(ratio * edge for edge in (40, 20, 100, 100))


@given(st.integers(1, 400), st.integers(1, 400))
def test_any_proportions_give_a_picture_within_limits(height: int, width: int) -> None:
    drawn = overlay(np.zeros((height, width, 3), np.uint8), seen(flat(0.0)), SCALE)
    assert SMALLEST <= max(drawn.shape[0] - LEGEND, drawn.shape[1]) <= LARGEST
    assert drawn.shape[1] >= NARROWEST


def test_the_legend_marks_the_threshold_where_its_colour_is() -> None:
    legend = overlay(GREY, seen(flat(0.0)), SCALE)[400:]
    bar = legend[22:34].astype(int)
    assert bar[5, 0].sum() < bar[5, 100].sum() < bar[5, 300].sum() < bar[5, -1].sum()
    marked = np.flatnonzero((bar.max(axis=2) < 40).all(axis=0))
    assert abs(marked[marked > 20].mean() - 399 / 2) <= 1
    plain = overlay(GREY, seen(flat(0.0)), ColourScale(0.0, 4.0))[400:]
    assert not (plain[22:34, 150:250].max(axis=2) < 40).any()


def test_without_a_map_the_picture_is_shown_as_it_is() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (400, 320, 3), np.uint8)
    assert (overlay(picture, seen(None), SCALE, legend=False) == picture).all()
