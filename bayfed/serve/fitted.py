"""A detector as the service sees it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bayfed.data import Pixels
from bayfed.evaluation.colours import ColourScale
from bayfed.inference.inspection import Inspection
from bayfed.product.detector import Detector
from bayfed.serve.product import Load


def loader(weights: Path | None) -> Load:
    """Return what opens a product file, its backbone's weights from ``weights`` if given."""

    def load(path: Path) -> Fitted:
        return Fitted(Detector.load(path, weights).warm())

    return load


class Fitted:
    """A detector with a threshold.

    Raises:
        ProductError: it has none.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.name, self.fpr = detector.name, detector.fpr
        self.threshold: float = detector.threshold
        self.scale: ColourScale = detector.scale

    def score(self, images: Sequence[Pixels]) -> list[Inspection]:
        """Say of each image what is to be thought of it."""
        return self._detector.score(images)

    def update(self, images: Sequence[Pixels]) -> None:
        """Take further good parts into the posterior; the threshold moves with them."""
        self._detector.update(images)
        self.threshold, self.scale = self._detector.threshold, self._detector.scale

    def save(self, path: Path) -> None:
        """Write the product file."""
        self._detector.save(path)
