"""Detectors as the service opens them."""

from __future__ import annotations

from pathlib import Path

from bayfed.product.detector import Detector
from bayfed.serve.product import Load


def loader(weights: Path | None) -> Load:
    """Return what opens a product file, its backbone's weights from ``weights`` if given.

    What it returns raises a ``ProductError`` where no threshold is set.
    """

    def load(path: Path) -> Detector:
        detector = Detector.load(path, weights)
        _ = detector.threshold  # refused now, not at the first image
        return detector.warm()

    return load
