from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from bayfed.errors import DataError, NumericalError
from bayfed.evaluation.colours import CONTOUR, ColourScale, surprise_colours
from bayfed.evaluation.heatmaps import HeatmapCase, heatmap_panel

SCALE = ColourScale(0.0, 10.0, threshold=5.0)


def case(surprise: NDArray[np.float64], grey: int = 128) -> HeatmapCase:
    shape = surprise.shape
    image = np.full((*shape, 3), grey, np.uint8)
    return HeatmapCase("nut", "scratch", image, surprise, surprise > 5, 7.0, 0.01, "defective")


def decoded(jpeg: bytes) -> NDArray[np.float64]:
    return np.asarray(Image.open(io.BytesIO(jpeg)), np.float64)


def brightness(position: float, grey: float) -> float:
    return float(surprise_colours(np.array(position), grey).mean())


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 0.98), st.floats(0, 1))
def test_more_surprise_is_never_darker(position: float, grey: float) -> None:
    weights = np.array([0.2126, 0.7152, 0.0722])
    luminance = [
        surprise_colours(np.array(p), grey).astype(float) @ weights
        for p in (position, position + 0.02)
    ]
    assert luminance[1] >= luminance[0] - 1.5  # colours are rounded to bytes


@pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
def test_normal_parts_stay_dark(grey: float) -> None:
    assert brightness(0.0, grey) < 80
    assert brightness(0.2, 0.5) < brightness(0.9, 0.0)


def test_the_scale_is_fixed_and_clips() -> None:
    assert SCALE.position(np.array([-5.0, 0.0, 2.5, 10.0, 99.0])).tolist() == [0, 0, 0.25, 1, 1]


def test_colours_do_not_depend_on_the_rest_of_the_image() -> None:
    calm = np.full((64, 64), 1.0)
    mixed = calm.copy()
    mixed[:, 32:] = 9.0
    alone, beside = (decoded(heatmap_panel(case(s), SCALE, 64).overlay) for s in (calm, mixed))
    assert np.abs(alone[:, :24] - beside[:, :24]).max() < 8  # JPEG


def test_the_line_appears_only_at_the_threshold() -> None:
    surprise = np.zeros((64, 64))
    surprise[16:48, 16:48] = 4.9
    below = decoded(heatmap_panel(case(surprise), SCALE, 64).overlay)
    surprise[16:48, 16:48] = 5.0
    above = decoded(heatmap_panel(case(surprise), SCALE, 64).overlay)
    assert (above >= np.array(CONTOUR) - 40).all(axis=2).any()
    assert not (below >= np.array(CONTOUR) - 40).all(axis=2).any()


def test_the_outline_surrounds_the_mask_and_leaves_it_visible() -> None:
    surprise = np.zeros((64, 64))
    surprise[24:40, 24:40] = 9.0
    panel = heatmap_panel(case(surprise), SCALE, 64)
    assert panel.outline is not None
    changed = np.abs(decoded(panel.outline) - decoded(panel.picture)).max(axis=2) > 60
    assert changed[22:24, 24:40].all()
    assert not changed[28:36, 28:36].any()
    assert not changed[:16].any()


@pytest.mark.parametrize("shape", [(20, 60), (60, 20), (400, 300)])
def test_panels_keep_the_aspect_and_fit(shape: tuple[int, int]) -> None:
    panel = heatmap_panel(case(np.zeros(shape)), SCALE, 120)
    sizes = {decoded(p).shape for p in (panel.picture, panel.overlay)}
    assert len(sizes) == 1
    height, width, _ = sizes.pop()
    assert max(height, width) == 120
    assert height / width == pytest.approx(shape[0] / shape[1], rel=0.05)


def test_without_a_mask_there_is_no_outline() -> None:
    plain = replace(case(np.zeros((8, 8))), mask=None)
    assert heatmap_panel(plain, SCALE).outline is None


def test_bad_scales_and_cases_are_refused() -> None:
    with pytest.raises(DataError, match="low 3"):
        ColourScale(3.0, 3.0)
    with pytest.raises(NumericalError, match="colour scale"):
        ColourScale(0.0, float("nan"))
    good = case(np.zeros((8, 8)))
    with pytest.raises(DataError, match="nut: image and surprise"):
        replace(good, surprise=np.zeros((8, 9)))
    with pytest.raises(DataError, match="nut: image and mask"):
        replace(good, mask=np.zeros((9, 8), bool))
    with pytest.raises(NumericalError, match="nut"):
        replace(good, surprise=np.full((8, 8), np.nan))
