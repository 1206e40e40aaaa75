"""Log-odds of a defect, learned from a few known defects."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bayfed.errors import ProductError

STRENGTH = 1.0
"""Inverse variance of the normal prior on the gain, per standard deviation of the scores."""


def fit_odds(
    good: NDArray[np.float64], defects: NDArray[np.float64], middle: float
) -> tuple[float, float]:
    r"""Return log gain and bias of log-odds that tell defects from good parts.

    .. math:: l = e^{g} (s - s_0) + b

    by logistic regression with a normal prior on the gain, both classes of equal weight, so that 0
    is where a defect is as likely as a good part if both are.

    Args:
        good: Scores of good parts.
        defects: Scores of defects.
        middle: :math:`s_0`, the mean score of the support.

    Raises:
        ProductError: defects score no higher than good parts.

    Source: Platt (1999), Probabilistic outputs for support vector machines.

    >>> gain, bias = fit_odds(np.array([0.0, 1.0]), np.array([5.0, 6.0]), 0.5)
    >>> bool(np.exp(gain) * (3.0 - 0.5) + bias < 1e-6)
    True
    """
    from sklearn.linear_model import LogisticRegression  # late: seconds that nobody else need pay

    scores, labels = np.concatenate([good, defects]), np.repeat([0, 1], [len(good), len(defects)])
    unit = float(scores.std()) or 1.0
    model = LogisticRegression(C=1 / STRENGTH, class_weight="balanced", tol=1e-8)
    model.fit((scores[:, None] - middle) / unit, labels)
    gain = float(model.coef_[0, 0]) / unit
    if not gain > 0:
        raise ProductError("defects: their scores are no higher than those of good images")
    return math.log(gain), float(model.intercept_[0])
