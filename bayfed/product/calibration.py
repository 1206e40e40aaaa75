"""The scores of good parts that a product knows, and the law that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bayfed.errors import BayfedError, ProductError
from bayfed.evaluation.calibrate import pooled_histogram, pooled_spread
from bayfed.metrics import Interval, share_interval
from bayfed.product.suspects import suspects
from bayfed.product.thresholds import (
    FEWEST,
    FenceLaw,
    FLaw,
    Kind,
    NullLaw,
    PooledLaw,
    RankLaw,
    StudentLaw,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Threshold:
    """The score above which a part is defective, what it rests on, and what it promises."""

    kind: Kind
    fpr: float
    value: float
    promise: str


@dataclass(frozen=True, eq=False)
class Calibration:
    """What is known of the scores of good parts.

    Attributes:
        own: ``(k,)`` scores of the support's images, each by the others.
        normals: ``(n,)`` scores of good images beside the support; empty where none were given.
        pooled: Sums of a run's calibration; {} where there is none.
        shots: Images of a support for which ``pooled`` was made.
        defects: ``(m,)`` scores of known defects; empty where none were given.
    """

    own: Floats
    normals: Floats = field(default_factory=lambda: np.empty(0))
    pooled: Mapping[str, Tensor] = field(default_factory=dict)
    shots: int = 0
    defects: Floats = field(default_factory=lambda: np.empty(0))

    @property
    def good(self) -> Floats:
        """The scores that a model is fitted to: of images beside the support, else its own."""
        return self.normals if len(self.normals) >= FEWEST else self.own

    def suspects(self) -> list[int]:
        """Return the images of the support that do not look like the others."""
        return suspects(self.own, pooled_spread(self.pooled) if self.pooled else None)

    def escapes(self, threshold: Threshold) -> Interval | None:
        """Return the share of the known defects that are not above it; None without any."""
        if not len(self.defects):
            return None
        return share_interval(int((self.defects <= threshold.value).sum()), len(self.defects))

    def with_own(self, own: Floats) -> Calibration:
        """Return the calibration of a support that has changed.

        Scores of images beside it are those of the law before, and promise nothing of this one.
        """
        return Calibration(own, pooled=self.pooled, shots=self.shots)

    def law(self, kind: Kind, fpr: float, level: float | None = None) -> NullLaw:
        """Return the law of ``kind``.

        Args:
            kind: What it rests on.
            fpr: Rate at which it will be asked for a threshold.
            level: Score at that rate by the method's own law; None where it has none.

        Raises:
            ProductError: what it rests on is not there.
        """
        match kind:
            case Kind.POOLED:
                return self._pooled()
            case Kind.MODEL if level is not None and not len(self.normals):
                return FLaw(level, len(self.own), fpr)
            case Kind.MODEL:
                return StudentLaw(self.good)
            case Kind.SPLIT if not len(self.normals):
                raise ProductError("threshold split: needs good images beside the support")
            case Kind.SPLIT:
                return RankLaw(self.normals, split=True)
            case Kind.JACKKNIFE:
                return RankLaw(self.own, split=False)
            case Kind.FENCE:
                return FenceLaw(self.good)

    def _pooled(self) -> NullLaw:
        histogram = pooled_histogram(self.pooled)
        if histogram is None:
            raise ProductError("threshold pooled: no run has pooled a calibration for this product")
        if len(self.own) != self.shots:
            raise ProductError(
                f"threshold pooled: the calibration was made at {self.shots} images and holds for "
                f"no other number; this product has {len(self.own)}"
            )
        return PooledLaw(histogram, pooled_spread(self.pooled), self.own)

    def threshold(self, kind: Kind | None, fpr: float, level: float | None = None) -> Threshold:
        """Return the threshold of ``kind``; None = the best that there is.

        Of images beside the support the ranks, if they are enough for ``fpr``; else the pooled law
        where it holds for as many supports; else a model.

        Raises:
            ProductError: the rate is no rate, or cannot be promised.
        """
        if not 0 < fpr < 1:
            raise ProductError(f"fpr: {fpr:g} is not between 0 and 1")
        if kind is not None:
            law = self.law(kind, fpr, level)
            return Threshold(kind, fpr, law.threshold(fpr), law.promise(fpr))
        usual = (Kind.SPLIT,) if len(self.normals) else (Kind.POOLED,)
        for one in usual:
            try:
                return self.threshold(one, fpr, level)
            except BayfedError:
                continue
        return self.threshold(Kind.MODEL, fpr, level)
