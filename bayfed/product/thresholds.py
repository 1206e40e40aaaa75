"""Laws of the image scores of good parts: p-values, thresholds, and what these can promise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from bayfed.errors import ProductError
from bayfed.methods import Scores
from bayfed.methods.refined import fence_of
from bayfed.normality import ScoreHistogram, reference

FEWEST = 2
"""Scores that have a spread."""
WHISKER = 1.5
"""Interquartile ranges above the third quartile."""


class Kind(StrEnum):
    """What a threshold rests on."""

    POOLED = "pooled"
    """Held-back good images of the factories of a run."""
    MODEL = "model"
    """A Student-t law of image scores, or the model's own F law at the image grain."""
    SPLIT = "split"
    """The ranks of good images that are not in the support."""
    JACKKNIFE = "jackknife"
    """The ranks of the support's own leave-one-image-out scores."""
    FENCE = "fence"
    """Quartiles of the same scores; it moves with every image that is added."""


class NullLaw(Protocol):
    """A law of the image scores of good parts."""

    def p_value(self, scores: Scores) -> Tensor | None:
        """Return the probability ``(n,)`` of a score at least as high; None if there is none."""

    def threshold(self, fpr: float) -> float:
        """Return the score above which a share ``fpr`` of good parts lies.

        Raises:
            ProductError: so low a rate cannot be promised.
        """

    def promise(self, fpr: float) -> str:
        """Return what is promised, and what the promise rests on."""


def percent(share: float) -> str:
    """Return a share as a user reads it.

    >>> percent(0.05), percent(1 / 6)
    ('5 %', '16.7 %')
    """
    return f"{100 * share:.3g} %"


def needs(scores: NDArray[np.float64]) -> None:
    """Check that ``scores`` have a spread.

    Raises:
        ProductError: they are fewer than two, or all alike.
    """
    if len(scores) < FEWEST:
        raise ProductError(f"threshold: {FEWEST} scores of good images are needed")
    if not float(np.std(scores)) > 0:
        raise ProductError("threshold: the good images all have the same score; are they copies?")


@dataclass(frozen=True)
class PooledLaw:
    """The standardised scores of many products' good images; see :class:`ScoreHistogram`.

    Attributes:
        histogram: Of the run.
        spread: Root mean square of its sites' support spreads.
        own: ``(k,)`` leave-one-image-out scores of the support.
    """

    histogram: ScoreHistogram = field(repr=False)
    spread: float
    own: NDArray[np.float64] = field(repr=False)

    def p_value(self, scores: Scores) -> Tensor | None:
        """Return the pooled p-values."""
        location, scale = self._reference()
        return self.histogram.p_value((scores.image.double() - location) / scale)

    def threshold(self, fpr: float) -> float:
        """Return the level of the pooled law, brought to the scale of this product.

        Raises:
            ProtocolError: the pooled scores are too few for so low a rate.
        """
        location, scale = self._reference()
        return float(location + scale * self.histogram.quantile(fpr))

    def promise(self, fpr: float) -> str:
        """Say that the rate holds on average over products."""
        number = f"{float(self.histogram.counts.sum()):.0f}"
        return (
            f"{percent(fpr)} of good parts, on average over products: the level of {number} "
            f"independent held-back good images of the run's factories, at the scale of the "
            f"{len(self.own)} supports of this one"
        )

    def _reference(self) -> tuple[Tensor, Tensor]:
        return reference(torch.from_numpy(self.own), self.spread)


@dataclass(frozen=True)
class StudentLaw:
    r"""The predictive of a normal law whose mean and variance ``k`` scores tell.

    .. math:: \frac{a - \bar a}{s \sqrt{1 + 1/k}} \sim t_{k - 1}

    Attributes:
        own: ``(k,)`` scores of good images, none of which had a part in its own score.

    Source: Gelman et al., Bayesian Data Analysis (2013), section 3.2.

    >>> law = StudentLaw(np.array([1.0, 2.0, 3.0]))
    >>> round(law.threshold(0.05), 3)  # 2 + 2.920 * sqrt(4 / 3)
    5.372
    """

    own: NDArray[np.float64] = field(repr=False)

    def p_value(self, scores: Scores) -> Tensor | None:
        """Return the upper tail of the Student-t."""
        location, scale = self._reference()
        t = (scores.image.double().numpy() - location) / scale
        return torch.from_numpy(np.asarray(stats.t.sf(t, len(self.own) - 1)))

    def threshold(self, fpr: float) -> float:
        """Return the quantile of the Student-t.

        Raises:
            ProductError: the scores have no spread.
        """
        location, scale = self._reference()
        return float(location + scale * stats.t.isf(fpr, len(self.own) - 1))

    def promise(self, fpr: float) -> str:
        """Say that the rate rests on a model."""
        k = len(self.own)
        text = (
            f"{percent(fpr)} of good parts, by a model: their scores are taken to be normal, and "
            f"{k} images tell mean and spread"
        )
        if fpr < 1 / (k + 1):
            text += f"; without a model {k} images cannot promise less than {percent(1 / (k + 1))}"
        return text

    def _reference(self) -> tuple[float, float]:
        needs(self.own)
        spread = float(np.std(self.own, ddof=1)) * math.sqrt(1 + 1 / len(self.own))
        return float(np.mean(self.own)), spread


@dataclass(frozen=True)
class FLaw:
    """The method's own law of an image's distance, exact where its model holds.

    Attributes:
        level: Score at a stated rate of false alarms; see ``KeptMethod.level``.
        number: Images of the support.
        rate: The rate that ``level`` belongs to.
    """

    level: float
    number: int
    rate: float

    def p_value(self, scores: Scores) -> Tensor | None:
        """Return the p-values that the method gives."""
        return scores.p_value

    def threshold(self, fpr: float) -> float:
        """Return the level of the F law.

        Raises:
            ProductError: it was computed for another rate.
        """
        if fpr != self.rate:
            raise ProductError(f"threshold: the level of {self.rate:g} is no level of {fpr:g}")
        return self.level

    def promise(self, fpr: float) -> str:
        """Say that the rate rests on the Gaussian model of embeddings."""
        return (
            f"{percent(fpr)} of good parts, by a model: embeddings are taken to be Gaussian, their "
            f"mean and covariance are those of {self.number} images and the prior (F law)"
        )


@dataclass(frozen=True)
class RankLaw:
    r"""Conformal p-values from the ranks of ``n`` scores.

    .. math:: p = \frac{1 + |\{i : a_i \ge a\}|}{n + 1}

    and the threshold is the :math:`\lceil (1 - \alpha)(n + 1) \rceil`-th lowest score.

    Attributes:
        scores: ``(n,)`` of good images.
        split: Whether these images are apart from the support (exact), or the support's own, each
            left out in turn.

    Source: Vovk et al. (2005), Algorithmic Learning in a Random World, section 2.2, for the split;
    Barber et al. (2021), Predictive inference with the jackknife+, for leaving one out.

    >>> RankLaw(np.arange(19.0), split=True).threshold(0.05)
    18.0
    """

    scores: NDArray[np.float64] = field(repr=False)
    split: bool

    def p_value(self, scores: Scores) -> Tensor | None:
        """Return the share of ranks at least as high."""
        ordered = np.sort(self.scores)
        below = np.searchsorted(ordered, scores.image.double().numpy(), side="left")
        return torch.from_numpy((1 + len(ordered) - below) / (len(ordered) + 1))

    def threshold(self, fpr: float) -> float:
        """Return the score of the rank.

        Raises:
            ProductError: there are fewer than ``1 / fpr - 1`` scores.
        """
        number = len(self.scores)
        rank = math.ceil(round((1 - fpr) * (number + 1), 9))
        if rank > number:
            wanted = math.ceil(round(1 / fpr, 9)) - 1
            raise ProductError(
                f"threshold: ranks of {number} good images cannot promise less than "
                f"{percent(1 / (number + 1))}; {percent(fpr)} needs {wanted}"
            )
        return float(np.sort(self.scores)[rank - 1])

    def promise(self, fpr: float) -> str:
        """Say which guarantee the ranks have."""
        number = len(self.scores)
        if self.split:
            return (
                f"at most {percent(fpr)} of good parts, whatever the law of their scores, on "
                f"average over draws of the {number} calibration images, as long as parts stay "
                "like them"
            )
        return (
            f"about {percent(fpr)} of good parts, without an exact guarantee: jackknife+, which "
            f"scores a part by each of {number} leave-one-out laws, has {percent(2 * fpr)}"
        )


@dataclass(frozen=True)
class FenceLaw:
    """Tukey's fence around the scores of good images, which moves as images are added.

    Attributes:
        scores: ``(n,)``.
    """

    scores: NDArray[np.float64] = field(repr=False)

    def p_value(self, scores: Scores) -> Tensor | None:
        """Return None: quartiles are no law."""
        del scores
        return None

    def threshold(self, fpr: float) -> float:
        """Return the fence; no rate moves it.

        Raises:
            ProductError: the scores have no spread.
        """
        del fpr
        needs(self.scores)
        return fence_of(torch.from_numpy(self.scores), WHISKER)

    def promise(self, fpr: float) -> str:
        """Say that no rate is promised."""
        del fpr
        return (
            f"no rate: {WHISKER:g} interquartile ranges above the third quartile of "
            f"{len(self.scores)} scores (of normal scores 0.35 % lie above, were quartiles known)"
        )
