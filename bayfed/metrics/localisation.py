"""How well score maps find the defective pixels, at every threshold and with exact ties.

Both metrics are areas under a curve against the pixel false-positive rate. A defective
pixel of score v enters the curve between x0 = FPR(s > v) and x1 = FPR(s >= v): as a step,
or as a ramp where good pixels tie with it. So the area is a sum over defective pixels, and
one sort of the good pixels replaces the sweep over thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayfed.errors import DataError, NumericalError
from bayfed.metrics.regions import Regions, label_regions

Map = NDArray[np.floating]
Truth = NDArray[np.bool_] | Regions

LIMIT = 0.3
"""Largest pixel false-positive rate of the published AUPRO."""


class _Pixels(NamedTuple):
    good: Map  # (g,) sorted
    defective: Map  # (m,)
    component: NDArray[np.float64]  # (m,) pixels in the component each belongs to
    components: int


def _check(index: int, scores: Map, mask: Truth) -> None:
    if scores.ndim != 2 or scores.shape != mask.shape:
        raise DataError(f"score map {index}: shape {scores.shape}, its mask {mask.shape}")
    if mask.dtype != np.bool_ and not np.issubdtype(mask.dtype, np.integer):
        raise DataError(f"score map {index}: the mask is {mask.dtype}, not bool or int")
    if not np.isfinite(scores).all():
        raise NumericalError(f"score map {index}: not all scores are finite")


def _component_sizes(mask: Truth) -> tuple[NDArray[np.float64], int]:
    labels = label_regions(mask > 0) if mask.dtype == np.bool_ else mask
    inside = labels[labels > 0]
    sizes = np.bincount(inside)
    return sizes.astype(np.float64)[inside], int(np.count_nonzero(sizes))


def _collect(maps: Sequence[Map], masks: Sequence[Truth]) -> _Pixels | None:
    if len(maps) != len(masks):
        raise DataError(f"{len(maps)} score maps for {len(masks)} masks")
    good: list[Map] = []
    defective: list[Map] = []
    sizes: list[NDArray[np.float64]] = []
    components = 0
    for index, (scores, mask) in enumerate(zip(maps, masks, strict=True)):
        _check(index, scores, mask)
        if not mask.any():
            good.append(scores.ravel())
            continue
        size, count = _component_sizes(mask)
        good.append(scores[mask == 0])
        defective.append(scores[mask > 0])
        sizes.append(size)
        components += count
    if not components or not sum(part.size for part in good):
        return None
    ordered = np.concatenate(good)
    ordered.sort()
    return _Pixels(ordered, np.concatenate(defective), np.concatenate(sizes), components)


class _Curve(NamedTuple):
    """Where each defective pixel enters, the lowest score first."""

    component: NDArray[np.float64]  # (m,) as in _Pixels
    components: int
    x0: NDArray[np.float64]  # (m,)
    x1: NDArray[np.float64]  # (m,)


def _curve(maps: Sequence[Map], masks: Sequence[Truth]) -> _Curve | None:
    pixels = _collect(maps, masks)
    if pixels is None:
        return None
    order = np.argsort(pixels.defective)
    values, total = pixels.defective[order], pixels.good.size
    x0 = 1.0 - np.searchsorted(pixels.good, values, side="right") / total
    x1 = 1.0 - np.searchsorted(pixels.good, values, side="left") / total
    return _Curve(pixels.component[order], pixels.components, x0, x1)


def _area(curve: _Curve, weights: NDArray[np.float64] | float, limit: float) -> float:
    """Integrate the weighted curve from FPR 0 to ``limit``."""
    x0, x1 = curve.x0, curve.x1
    width = np.where(x1 > x0, x1 - x0, 1.0)
    ramp = np.clip(limit - x0, 0.0, x1 - x0)
    flat = np.clip(limit - x1, 0.0, None)
    return float(np.sum(weights * (ramp * ramp / (2.0 * width) + flat)))


def pixel_auroc(maps: Sequence[Map], masks: Sequence[Truth]) -> float | None:
    """Return the area under the ROC curve of all pixels of all images.

    P(s_defect > s_good) + P(s_defect = s_good) / 2

    Args:
        maps: (h, w) scores of each image; sizes may differ between images.
        masks: (h, w) true on defective pixels, or the number of the defect region there
            (:func:`scale_regions`); all false or 0 for a good image.

    Returns:
        The area; None (not applicable) if no pixel is defective, or none is good.

    Raises:
        DataError: a map and its mask differ in shape, or their numbers differ.
        NumericalError: a score is not finite.

    >>> pixel_auroc([np.array([[0.1, 0.4], [0.35, 0.8]])], [np.array([[0, 0], [1, 1]]) > 0])
    0.75
    """
    curve = _curve(maps, masks)
    return None if curve is None else _auroc(curve)


def _auroc(curve: _Curve) -> float:
    return _area(curve, 1.0 / curve.x0.size, 1.0)


def aupro(maps: Sequence[Map], masks: Sequence[Truth], limit: float = LIMIT) -> float | None:
    """Return the area under the per-region-overlap curve up to a false-positive rate.

    (1 / L) int_0^L PRO(x) dx,  PRO(x) = (1 / C) sum_c |{p in c: s_p >= t(x)}| / |c|

    with L the limit, C the defect regions of all images (8-connected, if not numbered) and t(x) the
    threshold at which a fraction x of the good pixels of all images is called defective.
    The curve runs through its value at every distinct score, straight in between, and is
    cut at x = L.

    Args:
        maps: (h, w) scores of each image; sizes may differ between images.
        masks: (h, w) true on defective pixels, or the number of the defect region there
            (:func:`scale_regions`); all false or 0 for a good image.
        limit: largest pixel false-positive rate, in (0, 1].

    Returns:
        The area; None (not applicable) if no pixel is defective, or none is good.

    Raises:
        DataError: a map and its mask differ in shape, their numbers differ, or the limit
            is not in (0, 1].
        NumericalError: a score is not finite.

    Source: Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021, section 5.

    >>> aupro([np.array([[0.1, 0.4], [0.9, 0.8]])], [np.array([[0, 0], [1, 1]]) > 0])
    1.0
    """
    if not 0.0 < limit <= 1.0:
        raise DataError(f"limit {limit}: the false-positive rate must be in (0, 1]")
    curve = _curve(maps, masks)
    return None if curve is None else _overlap(curve, limit)


def _overlap(curve: _Curve, limit: float) -> float:
    return _area(curve, 1.0 / (curve.component * curve.components), limit) / limit


def localisation(maps: Sequence[Map], masks: Sequence[Truth]) -> dict[str, float | None]:
    """Return :func:`pixel_auroc` and :func:`aupro` from one sort of the pixels.

    >>> localisation([np.array([[0.1, 0.4], [0.9, 0.8]])], [np.array([[0, 0], [1, 1]]) > 0])
    {'pixel_auroc': 1.0, 'aupro': 1.0}
    """
    curve = _curve(maps, masks)
    if curve is None:
        return {"pixel_auroc": None, "aupro": None}
    return {"pixel_auroc": _auroc(curve), "aupro": _overlap(curve, LIMIT)}
