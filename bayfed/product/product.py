"""Everything that a fitted detector is, beside the frozen backbone."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from bayfed.config import Experiment
from bayfed.data import Pixels
from bayfed.features import Params
from bayfed.features.preprocess import Shape
from bayfed.inference.frame import Frame
from bayfed.product.calibration import Calibration, Threshold


class Good(NamedTuple):
    """A good image that the posterior has seen: its name, and the hash of its pixels."""

    name: str
    digest: str


@dataclass(frozen=True)
class Provenance:
    """Where a product comes from.

    Attributes:
        source: Run and round, or ``backbone``.
        version: Of bayfed, when it was fitted.
        images: What it has seen.
        fitted: When, in UTC.
        updated: When images were last added; empty = never.
    """

    source: str
    version: str
    images: tuple[Good, ...]
    fitted: str
    updated: str = ""


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, eq=False)
class Product:
    """A fitted detector.

    Attributes:
        name: Of the product.
        experiment: Settings of backbone and method.
        frame: The part of an image that is inspected, and its tiles.
        shape: Of the network's input.
        params: The meta-parameters.
        fitted: What the method has made of the support; see ``KeptMethod.tensors``.
        calibration: Scores of good parts.
        threshold: None = none is set.
        dark: Surprise below which a map is drawn dark, in nats per dimension.
        provenance: Where it comes from.
        supports: Pictures of the support, if they are kept.
    """

    name: str
    experiment: Experiment
    frame: Frame
    shape: Shape
    params: Params = field(repr=False)
    fitted: Params = field(repr=False)
    calibration: Calibration = field(repr=False)
    threshold: Threshold | None
    dark: float
    provenance: Provenance
    supports: tuple[Pixels, ...] = field(default=(), repr=False)
