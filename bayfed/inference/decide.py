"""From scores to a decision."""

from __future__ import annotations

import math

from bayfed.inference.inspection import Decision

REVIEW = 1.0
"""Standard deviations around a score within which the threshold is too near to decide."""


def share_of_parameters(parameters: float, tokens: float) -> float:
    """Return the share of a score's variance that more supports would take away.

    >>> share_of_parameters(1.0, 3.0)
    0.25
    """
    total = parameters + tokens
    return parameters / total if total > 0 else 0.0


def decide(score: float, threshold: float, variance: float) -> Decision:
    r"""Return what happens to a part.

    Review where :math:`|s - \tau| \le` ``REVIEW`` :math:`\cdot \operatorname{sd} s`, the standard
    deviation being what the posterior leaves open, else defect above the threshold.

    Args:
        score: :math:`s`.
        threshold: :math:`\tau`.
        variance: :math:`(\operatorname{sd} s)^2`, of the parameters alone.

    >>> [decide(s, 2.0, 0.25).value for s in (1.0, 1.8, 3.0)]
    ['ok', 'review', 'defect']
    """
    if abs(score - threshold) <= REVIEW * math.sqrt(max(variance, 0.0)):
        return Decision.REVIEW
    return Decision.DEFECT if score > threshold else Decision.OK
