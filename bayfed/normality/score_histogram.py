"""P-values and thresholds of image scores from counts pooled over sites.

An image score at the patch grain is a mean over the highest of hundreds of dependent patches; no
closed law holds for it. Its null law is taken from standardised scores of held-out normal images
of many sites (:func:`bayfed.normality.standardise`), counted in fixed bins so that the counts
of sites can be added, securely if wanted.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bayfed.errors import ProtocolError
from bayfed.normality.linalg import check_finite

LOWEST, HIGHEST, BINS = -10.0, 40.0, 500
"""Range of standardised scores and its bins; anomalies lie to the right, hence the asymmetry."""
EDGES = np.linspace(LOWEST, HIGHEST, BINS + 1)
TAIL_COUNT = 20.0
"""Scores that the exponential tail is fitted to: its scale is then known within a quarter."""
SMALLEST_P = 1e-12
"""Floor of the extrapolated p-value: beyond it the tail is a guess, and 0 would be a falsehood."""

Floats = NDArray[np.float64]


class _Tail(NamedTuple):
    """Survival ``mass * exp(-(x - start) / scale)`` beyond ``start``."""

    start: float
    mass: float
    scale: float


class ScoreHistogram(NamedTuple):
    r"""Counts of standardised normal scores in fixed bins.

    The survival function is, with :math:`n` scores of which :math:`N(t)` are at least
    :math:`t` (linear inside a bin),

    .. math:: p(t) = \frac{1 + N(t)}{n + 1}

    and from :math:`u` with :math:`N(u) =` ``TAIL_COUNT`` on, where there are more than twice
    as many scores, :math:`p(u) e^{-(t - u) / \beta}` with the maximum-likelihood
    :math:`\beta` of the scores beyond :math:`u`; those beyond ``HIGHEST`` enter as censored.

    Attributes:
        counts: ``(BINS + 2,)``: below ``LOWEST``, the bins, at or above ``HIGHEST``.
    """

    counts: Tensor

    def add(self, other: ScoreHistogram) -> ScoreHistogram:
        """Return the histogram of both samples together.

        >>> one = score_histogram(torch.zeros(1))
        >>> one.add(one).counts.sum().item()
        2.0
        """
        return ScoreHistogram(self.counts + other.counts)

    def p_value(self, scores: Tensor) -> Tensor:
        """Return the estimated probability of a normal score at least as high.

        Args:
            scores: standardised as the pooled ones were, ``(...)``.

        Returns:
            ``(...)`` in [``SMALLEST_P``, 1], in the type of ``scores``; 1 where nothing was
            counted. Not differentiable.

        Source: add-one correction as in Phipson and Smyth (2010); exponential tail as the limit
        law of excesses over a high threshold, Pickands (1975), with shape 0.

        >>> pooled = score_histogram(torch.zeros(19))
        >>> pooled.p_value(torch.tensor([-20.0, 5.0])).tolist()
        [1.0, 0.05000000074505806]
        """
        points = scores.detach().cpu().double().numpy()
        total, above = self._above()
        survival = (1 + np.interp(points, EDGES, above, left=total)) / (total + 1)
        tail = self._tail(total, above)
        if tail is not None:
            excess = np.maximum(points - tail.start, 0)
            survival = np.where(excess > 0, tail.mass * np.exp(-excess / tail.scale), survival)
        return torch.as_tensor(np.maximum(survival, SMALLEST_P)).to(scores)

    def quantile(self, fpr: float) -> float:
        """Return the threshold whose false-positive rate on normal images is ``fpr``.

        Args:
            fpr: in (0, 1).

        Returns:
            A standardised score ``t`` with ``p_value(t) = fpr``; ``LOWEST`` where ``fpr`` is
            above its p-value.

        Raises:
            ProtocolError: the pooled scores are too few for so low a rate.

        >>> round(score_histogram(torch.linspace(0, 1, 199)).quantile(0.5), 1)
        0.5
        >>> score_histogram(torch.zeros(9)).quantile(0.05)
        Traceback (most recent call last):
        bayfed.errors.ProtocolError: a false-positive rate of 0.05 needs more than 9 pooled scores
        """
        total, above = self._above()
        tail = self._tail(total, above)
        if tail is not None and fpr <= tail.mass and math.isfinite(tail.scale):
            return tail.start + tail.scale * math.log(tail.mass / fpr)
        survival = (1 + above) / (total + 1)
        if fpr < survival[-1]:
            raise ProtocolError(
                f"a false-positive rate of {fpr:g} needs more than {total:g} pooled scores"
            )
        return float(np.interp(fpr, survival[::-1], EDGES[::-1]))

    def _above(self) -> tuple[float, Floats]:
        """Return the number of scores, and of those at or above each edge."""
        counts: Floats = self.counts.detach().cpu().double().numpy()
        return float(counts.sum()), np.cumsum(counts[::-1])[::-1][1:]

    def _tail(self, total: float, above: Floats) -> _Tail | None:
        if total <= 2 * TAIL_COUNT:
            return None
        start = float(np.interp(TAIL_COUNT, above[::-1], EDGES[::-1], right=LOWEST))
        beyond = start < EDGES
        # The area under the count of survivors is the sum of the (censored) excesses.
        excesses = np.trapezoid(
            np.append(TAIL_COUNT, above[beyond]), np.append(start, EDGES[beyond])
        )
        mass = (1 + max(TAIL_COUNT, above[-1])) / (total + 1)
        observed = TAIL_COUNT - above[-1]
        return _Tail(start, mass, float(excesses / observed) if observed > 0 else math.inf)


def score_histogram(scores: Tensor) -> ScoreHistogram:
    """Count standardised scores of normal images.

    Args:
        scores: any shape.

    Returns:
        Counts in float64.

    Raises:
        NumericalError: a score is not finite.

    >>> score_histogram(torch.tensor([-99.0, 0.0, 99.0])).counts[[0, -1]].tolist()
    [1.0, 1.0]
    """
    values = scores.detach().cpu().double().flatten()
    check_finite(values, "standardised score")
    bins = torch.bucketize(values, torch.from_numpy(EDGES), right=True)
    return ScoreHistogram(torch.bincount(bins, minlength=BINS + 2).double())
