"""Whether an exported detector says what the fitted one says, on real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bayfed.data import Pixels
from bayfed.errors import ProductError
from bayfed.inference.decide import decide
from bayfed.inference.exported import Exported
from bayfed.inference.inspection import Inspection
from bayfed.inference.pictures import Picture, pixels_of, place_of
from bayfed.methods import Scores
from bayfed.normality.score_histogram import SMALLEST_P
from bayfed.product.detector import Detector

FEWEST = 3
"""Images of a check."""
SCORE, HEATMAP, P_VALUE = 1e-4, 1e-3, 1e-4
"""Largest relative differences of an export that is kept.

A cell is one of hundreds that make a score; what it sees is kept in half precision, and the last
digit of that may differ. A p-value is compared with those of all scores within the tolerance.
"""


@dataclass(frozen=True)
class Parity:
    """The largest differences between a detector and its export.

    Attributes:
        images: That were compared.
        score: Of a score, relative to the larger of its size and the scale's half width, since a
            score is a difference that passes through 0.
        absolute: The same in nats per dimension.
        heatmap: Of a cell of a map, relative as the scores; 0 where there are no maps.
        p_value: Relative; 0 where there are none.
        p_values: Images whose p-value is not that of a score within the tolerance.
        decisions: Images that are decided as no score within the tolerance is.
    """

    images: int
    score: float
    absolute: float
    heatmap: float
    p_value: float
    p_values: int
    decisions: int

    @property
    def holds(self) -> bool:
        """Whether all differences are within the tolerance."""
        within = self.score <= SCORE and self.heatmap <= HEATMAP
        return within and not self.p_values and not self.decisions

    @property
    def text(self) -> str:
        """The differences and their tolerances, for a user."""
        equal = (f"{self.images - other}" for other in (self.p_values, self.decisions))
        return (
            f"{self.images} images: largest relative difference of scores {self.score:.1e} "
            f"(tolerance {SCORE:.0e}), of heatmaps {self.heatmap:.1e} ({HEATMAP:.0e}), of p-values "
            f"{self.p_value:.1e}; within the tolerance {next(equal)} p-values and {next(equal)} "
            "decisions are equal"
        )


def enough(images: Sequence[Picture]) -> None:
    """Refuse too few images.

    Raises:
        ProductError: they are fewer than ``FEWEST``.
    """
    if len(images) < FEWEST:
        raise ProductError(
            f"export: {len(images)} images to check it on where at least {FEWEST} real ones are "
            "needed (--images)"
        )


def compare(detector: Detector, exported: Exported, images: Sequence[Picture]) -> Parity:
    """Score images by both.

    Raises:
        ProductError: fewer than ``FEWEST`` images, or the export cannot be run.
        DataError: an image cannot be used.
    """
    enough(images)
    found = [_one(detector, exported, image, i) for i, image in enumerate(images)]
    *largest, p_values, decisions = zip(*found, strict=True)
    score, absolute, heatmap, p_value = (float(max(values)) for values in largest)
    return Parity(len(images), score, absolute, heatmap, p_value, sum(p_values), sum(decisions))


def _one(
    detector: Detector, exported: Exported, image: Picture, number: int
) -> tuple[float, float, float, float, bool, bool]:
    """Return the differences of one image: the fields of :class:`Parity` but the number."""
    pixels, place = pixels_of(image, number), place_of(image, number)
    (own,), (other,) = detector.inspect([pixels], [place]), exported.inspect([pixels], [place])
    unit = (detector.scale.high - detector.scale.low) / 2
    size = max(abs(own.score), unit)
    apart, near = abs(own.score - other.score), SCORE * size
    return (
        apart / size,
        apart,
        _of_maps(own, other, unit),
        _relative(other.p_value, own.p_value),
        _no_p_value(detector, own, other, near),
        _no_decision(detector, own, other, pixels, near),
    )


def _of_maps(own: Inspection, other: Inspection, unit: float) -> float:
    if own.surprise is None or other.surprise is None:
        return 0.0 if own.surprise is other.surprise else np.inf
    if own.surprise.shape != other.surprise.shape:
        return np.inf
    apart = np.abs(own.surprise - other.surprise)
    return float((apart / np.maximum(np.abs(own.surprise), unit)).max())


def _relative(one: float | None, other: float | None) -> float:
    if one is None or other is None:
        return 0.0 if one is other else np.inf
    return abs(one - other) / max(other, SMALLEST_P)


def _no_p_value(detector: Detector, own: Inspection, other: Inspection, near: float) -> bool:
    """Return whether a p-value is that of no score within the tolerance."""
    if own.p_value is None or other.p_value is None:
        return own.p_value is not other.p_value
    around = torch.tensor([own.score - near, own.score + near], dtype=torch.double)
    found = detector.law().p_value(Scores(around, None))
    bounds = [own.p_value, *([] if found is None else found.tolist())]
    nearest = min(max(other.p_value, min(bounds)), max(bounds))
    return _relative(other.p_value, nearest) > P_VALUE


def _no_decision(
    detector: Detector, own: Inspection, other: Inspection, pixels: Pixels, near: float
) -> bool:
    """Return whether an image is decided as no score within the tolerance is."""
    if own.decision == other.decision:
        return False
    spread = detector.scores([pixels], ["image"]).spread
    variance = float(spread.parameters[0]) if spread else 0.0
    around = (decide(own.score + by, detector.threshold, variance) for by in (-near, near))
    return other.decision not in tuple(around)
