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
from bayfed.normality.score_histogram import SMALLEST_P
from bayfed.product.detector import Detector
from bayfed.product.thresholds import RankLaw

FEWEST = 3
"""Images of a check."""
SCORE, HEATMAP, P_VALUE = 1e-4, 1e-3, 1e-3
"""Largest relative differences of an export that is kept.

A token is one of hundreds that make a score; what it sees is kept in half precision, and the last
digit of that may differ.
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
        decisions: Images that are decided otherwise, and do not lie on a border by the tolerance.
    """

    images: int
    score: float
    absolute: float
    heatmap: float
    p_value: float
    decisions: int

    @property
    def holds(self) -> bool:
        """Whether all differences are within the tolerance."""
        return (
            self.score <= SCORE
            and self.heatmap <= HEATMAP
            and self.p_value <= P_VALUE
            and not self.decisions
        )

    @property
    def text(self) -> str:
        """The differences and their tolerances, for a user."""
        equal = self.images - self.decisions
        return (
            f"{self.images} images: largest relative difference of scores {self.score:.1e} "
            f"(tolerance {SCORE:.0e}), of heatmaps {self.heatmap:.1e} ({HEATMAP:.0e}), of p-values "
            f"{self.p_value:.1e} ({P_VALUE:.0e}); {equal} of {self.images} decisions equal"
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
    score, absolute, heatmap, p_value = np.max([values for values, _ in found], axis=0).tolist()
    decisions = sum(differs for _, differs in found)
    return Parity(len(images), score, absolute, heatmap, p_value, decisions)


def _one(
    detector: Detector, exported: Exported, image: Picture, number: int
) -> tuple[tuple[float, ...], bool]:
    """Return the differences of one image, and whether it is decided otherwise."""
    pixels, place = pixels_of(image, number), place_of(image, number)
    (own,), (other,) = detector.inspect([pixels], [place]), exported.inspect([pixels], [place])
    unit = (detector.scale.high - detector.scale.low) / 2
    apart = abs(own.score - other.score)
    differences = (
        apart / max(abs(own.score), unit),
        apart,
        _of_maps(own, other, unit),
        _of_p_values(detector, own, other, SCORE * unit),
    )
    return differences, _differs(detector, own, other, pixels, SCORE * unit)


def _of_maps(own: Inspection, other: Inspection, unit: float) -> float:
    if own.surprise is None or other.surprise is None:
        return 0.0 if own.surprise is other.surprise else np.inf
    if own.surprise.shape != other.surprise.shape:
        return np.inf
    apart = np.abs(own.surprise - other.surprise)
    return float((apart / np.maximum(np.abs(own.surprise), unit)).max())


def _of_p_values(detector: Detector, own: Inspection, other: Inspection, near: float) -> float:
    """Return how far a p-value is from that of the same score, give or take the tolerance.

    The latter for ranks alone: these are steps, and on a step the last digit of a score decides.
    """
    if own.p_value is None or other.p_value is None:
        return 0.0 if own.p_value is other.p_value else np.inf
    law, bounds = detector.law(), [own.p_value]
    if isinstance(law, RankLaw):
        around = torch.tensor([own.score - near, own.score + near], dtype=torch.double)
        bounds += law.ranks(around).tolist()
    nearest = min(max(other.p_value, min(bounds)), max(bounds))
    return abs(other.p_value - nearest) / max(nearest, SMALLEST_P)


def _differs(
    detector: Detector, own: Inspection, other: Inspection, pixels: Pixels, near: float
) -> bool:
    """Return whether an image is decided otherwise, and would be by any score that near."""
    if own.decision == other.decision:
        return False
    spread = detector.scores([pixels], ["image"]).spread
    variance = float(spread.parameters[0]) if spread else 0.0
    around = (decide(own.score + by, detector.threshold, variance) for by in (-near, near))
    return other.decision not in tuple(around)
