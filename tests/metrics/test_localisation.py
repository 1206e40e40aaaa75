from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from bayfed.errors import DataError, NumericalError
from bayfed.metrics import aupro, localisation, pixel_auroc
from bayfed.seeds import stream

Maps = list[NDArray[np.float64]]
Masks = list[NDArray[np.bool_]]


def flood(mask: NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """Find 8-connected components by walking from pixel to pixel."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        edge, component = [left.pop()], set()
        while edge:
            y, x = edge.pop()
            component.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge.extend(near)
        found.append(component)
    return found


def slow_aupro(maps: Maps, masks: Masks, limit: float) -> float:
    """Sweep every distinct score and integrate the curve by trapezia, cut at the limit."""
    good = np.concatenate([scores[~mask] for scores, mask in zip(maps, masks, strict=True)])
    regions = [
        np.array([scores[pixel] for pixel in component])
        for scores, mask in zip(maps, masks, strict=True)
        for component in flood(mask)
    ]
    curve = [(0.0, 0.0)]
    for threshold in sorted({float(v) for scores in maps for v in scores.flat}, reverse=True):
        overlap = np.mean([np.mean(region >= threshold) for region in regions])
        curve.append((float(np.mean(good >= threshold)), float(overlap)))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x1 > limit:
            end = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            return (area + (limit - x0) * (y0 + end) / 2) / limit
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Maps, Masks]:
    rng = stream(draw(st.integers(0, 10_000)), "scenes")
    levels = draw(st.sampled_from([2, 5, 1000]))
    sizes = draw(st.lists(st.tuples(st.integers(2, 7), st.integers(2, 7)), min_size=1, max_size=3))
    maps = [rng.integers(0, levels, size).astype(np.float64) for size in sizes]
    masks = [rng.random(size) < draw(st.sampled_from([0.0, 0.2, 0.5])) for size in sizes]
    masks[0].flat[0], masks[0].flat[-1] = True, False
    return maps, masks


@settings(max_examples=60, deadline=None)
@given(scenes(), st.sampled_from([0.05, 0.3, 0.77, 1.0]))
def test_aupro_equals_the_sweep_over_thresholds(scene: tuple[Maps, Masks], limit: float) -> None:
    assert aupro(*scene, limit=limit) == pytest.approx(slow_aupro(*scene, limit), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_pixel_auroc_equals_the_reference(scene: tuple[Maps, Masks]) -> None:
    maps, masks = (np.concatenate([part.ravel() for part in parts]) for parts in scene)
    assert pixel_auroc(*scene) == pytest.approx(roc_auc_score(masks, maps), abs=1e-12)


def test_every_component_weighs_the_same() -> None:
    mask = np.zeros((6, 6), dtype=bool)
    mask[0, 0] = mask[3:, 3:] = True
    scores = np.where(mask, 0.0, 0.5)
    scores[0, 0] = 1.0
    assert aupro([scores], [mask]) == pytest.approx(0.5)
    scores[0, 0], scores[3:, 3:] = 0.0, 1.0
    assert aupro([scores], [mask]) == pytest.approx(0.5)


def test_pixels_that_touch_at_a_corner_are_one_component() -> None:
    mask = np.zeros((4, 8), dtype=bool)
    mask[0, 0] = mask[1, 1] = mask[2, 2] = True
    mask[0, 7] = True
    scores = np.zeros((4, 8))
    scores[0, 0] = scores[1, 1] = scores[2, 2] = 1.0
    # one of two components covered at FPR 0, the rest on the diagonal to (1, 1)
    assert aupro([scores], [mask]) == pytest.approx(0.5 + 0.5 * 0.3 / 2)


def test_a_constant_map_follows_the_diagonal() -> None:
    mask = np.eye(5, dtype=bool)
    assert aupro([np.zeros((5, 5))], [mask]) == pytest.approx(0.15)
    assert pixel_auroc([np.zeros((5, 5))], [mask]) == pytest.approx(0.5)


def test_the_curve_is_cut_by_interpolation_at_the_limit() -> None:
    # ten good pixels: two tie with the defect at the top, so the ramp ends at FPR 0.2
    scores = np.array([[1.0, 1, 1] + [0.0] * 8])
    mask = np.array([[True] + [False] * 10])
    assert aupro([scores], [mask], limit=0.1) == pytest.approx(0.25)
    assert aupro([scores], [mask], limit=0.4) == pytest.approx((0.1 + 0.2) / 0.4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_only_the_order_of_scores_counts(seed: int) -> None:
    rng = stream(seed, "order")
    scores, mask = rng.normal(size=(6, 6)).astype(np.float32), rng.random((6, 6)) < 0.3
    mask.flat[0], mask.flat[1] = True, False
    doubled = [scores * 2]  # exact, so ties stay ties
    for metric in (aupro, pixel_auroc):
        assert metric([scores], [mask]) == metric(doubled, [mask])
        assert metric([scores] * 2, [mask] * 2) == pytest.approx(metric([scores], [mask]))


@pytest.mark.parametrize("metric", [aupro, pixel_auroc])
@pytest.mark.parametrize("value", [True, False])
def test_one_kind_of_pixel_is_not_applicable(metric, value: bool) -> None:
    assert metric([np.zeros((3, 3))], [np.full((3, 3), value)]) is None
    assert metric([], []) is None


@pytest.mark.parametrize("metric", [aupro, pixel_auroc])
def test_bad_input_is_named(metric) -> None:
    scores, mask = np.zeros((3, 3)), np.eye(3, dtype=bool)
    with pytest.raises(DataError, match="score map 1: shape"):
        metric([scores, scores], [mask, mask[:2]])
    with pytest.raises(DataError, match="2 score maps for 1 masks"):
        metric([scores, scores], [mask])
    with pytest.raises(DataError, match="not bool"):
        metric([scores], [mask.astype(np.float32)])
    with pytest.raises(NumericalError, match="score map 0"):
        metric([np.where(mask, np.nan, scores)], [mask])


@pytest.mark.parametrize("limit", [0.0, 1.1, -1.0])
def test_the_limit_is_a_rate(limit: float) -> None:
    with pytest.raises(DataError, match="limit"):
        aupro([np.zeros((3, 3))], [np.eye(3, dtype=bool)], limit=limit)


def test_both_metrics_come_from_one_sort() -> None:
    random = np.random.default_rng(5)
    maps = [random.integers(0, 9, (6, 6)).astype(np.float32) for _ in range(4)]
    masks = [np.zeros((6, 6), bool) for _ in range(4)]
    masks[1][:2, :2] = masks[2][4:, 3:] = True
    expected = {"pixel_auroc": pixel_auroc(maps, masks), "aupro": aupro(maps, masks)}
    assert localisation(maps, masks) == expected
    assert localisation(maps[:1], masks[:1]) == {"pixel_auroc": None, "aupro": None}
