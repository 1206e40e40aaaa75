"""What a fitted detector says of one image."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Decision(StrEnum):
    """What happens to the part."""

    OK = "ok"
    DEFECT = "defect"
    REVIEW = "review"
    """A person decides: the few supports leave it open on which side of the threshold it lies."""


class Region(NamedTuple):
    """A connected part of the image whose surprise is above the map's threshold.

    Attributes:
        x, y, width, height: Its box, in pixels of the image.
        area: In pixels of the image.
        peak: Largest surprise in it, in nats per dimension.
    """

    x: int
    y: int
    width: int
    height: int
    area: int
    peak: float


@dataclass(frozen=True, eq=False)
class Inspection:
    """What a detector says of one image.

    Attributes:
        score: Image score, in nats per dimension; larger = less normal.
        log_odds: Log-odds of a defect.
        p_value: Probability of so high a score for a good part; None where no law is known.
        epistemic: Share in [0, 1] of the score's variance that comes from the few supports.
        decision: ok, defect or review.
        surprise: ``(h, w)`` map on the token grid, in nats per dimension; None at the image grain.
        regions: Where the map is above its threshold, the highest peak first.
    """

    score: float
    log_odds: float
    p_value: float | None
    epistemic: float
    decision: Decision
    surprise: NDArray[np.float32] | None = field(repr=False)
    regions: tuple[Region, ...] = ()
