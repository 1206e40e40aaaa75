"""How well image scores separate good from defective images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from bayfed.errors import DataError, NumericalError


def _finite(scores: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 1:
        raise DataError(f"scores: a vector is expected, not {array.ndim} dimensions")
    if not np.isfinite(array).all():
        raise NumericalError("scores: not all are finite")
    return array


def _checked(
    scores: ArrayLike, defective: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, truth = _finite(scores), np.asarray(defective)
    if truth.shape != values.shape:
        raise DataError(f"scores: {values.size} values for {truth.size} labels")
    if truth.size and not np.isin(truth, (0, 1)).all():
        raise DataError("labels: only 0 (good) and 1 (defective) are expected")
    return values, truth.astype(np.bool_)


def _one_class(truth: NDArray[np.bool_]) -> bool:
    return bool(truth.all() or not truth.any())


def _called_defective(threshold: float, scores: ArrayLike) -> NDArray[np.bool_]:
    if not np.isfinite(threshold):
        raise NumericalError("threshold: not finite")
    return _finite(scores) >= threshold


def image_auroc(scores: ArrayLike, defective: ArrayLike) -> float | None:
    """Return the area under the ROC curve of the image scores.

    P(s_defect > s_good) + P(s_defect = s_good) / 2

    Args:
        scores: (n,) higher means more anomalous.
        defective: (n,) true or 1 where the image has a defect.

    Returns:
        The area; None (not applicable) if only one class is present.

    Raises:
        DataError: the lengths differ, or a label is neither 0 nor 1.
        NumericalError: a score is not finite.

    >>> image_auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.75
    """
    values, truth = _checked(scores, defective)
    return None if _one_class(truth) else float(roc_auc_score(truth, values))


def image_auprc(scores: ArrayLike, defective: ArrayLike) -> float | None:
    """Return the average precision of the image scores, defective as the positive class.

    sum_i (R_i - R_{i-1}) P_i over the distinct thresholds, without interpolation

    Args:
        scores: (n,) higher means more anomalous.
        defective: (n,) true or 1 where the image has a defect.

    Returns:
        The average precision; None (not applicable) if only one class is present.

    Raises:
        DataError: the lengths differ, or a label is neither 0 nor 1.
        NumericalError: a score is not finite.

    >>> image_auprc([0.1, 0.4, 0.8], [0, 0, 1])
    1.0
    """
    values, truth = _checked(scores, defective)
    return None if _one_class(truth) else float(average_precision_score(truth, values))


def f1_max(scores: ArrayLike, defective: ArrayLike) -> float | None:
    """Return the best F1 over all thresholds, which looks at the labels it is measured on.

    max_t 2 TP(t) / (2 TP(t) + FP(t) + FN(t)), an image being called defective if s >= t

    Args:
        scores: (n,) higher means more anomalous.
        defective: (n,) true or 1 where the image has a defect.

    Returns:
        The largest F1; None (not applicable) if only one class is present.

    Raises:
        DataError: the lengths differ, or a label is neither 0 nor 1.
        NumericalError: a score is not finite.

    >>> f1_max([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.8
    """
    values, truth = _checked(scores, defective)
    if _one_class(truth):
        return None
    precision, recall, _ = precision_recall_curve(truth, values)
    total = precision + recall
    return float(np.max(2 * precision * recall / np.where(total > 0, total, 1)))


def fpr_at(threshold: float, scores_good: ArrayLike) -> float | None:
    """Return the fraction of good images called defective, that is with s >= threshold.

    Args:
        threshold: of the decision, in units of the score.
        scores_good: (n,) scores of good images.

    Returns:
        The false-positive rate; None (not applicable) if there is no good image.

    Raises:
        NumericalError: a score or the threshold is not finite.

    >>> fpr_at(0.5, [0.1, 0.2, 0.5, 0.7])
    0.5
    """
    called = _called_defective(threshold, scores_good)
    return float(np.mean(called)) if called.size else None


def fnr_at(threshold: float, scores_defect: ArrayLike) -> float | None:
    """Return the fraction of defective images called good, that is with s < threshold.

    Args:
        threshold: of the decision, in units of the score.
        scores_defect: (n,) scores of defective images.

    Returns:
        The false-negative rate; None (not applicable) if there is no defective image.

    Raises:
        NumericalError: a score or the threshold is not finite.

    >>> fnr_at(0.5, [0.1, 0.5, 0.6, 0.7])
    0.25
    """
    called = _called_defective(threshold, scores_defect)
    return float(np.mean(~called)) if called.size else None


def fpr_at_fnr(scores: ArrayLike, defective: ArrayLike, fnr: float = 0.1) -> float | None:
    """Return the fraction of good images above the threshold that misses ``fnr`` of the defects.

    t = s_(k+1) of the m defects in ascending order, k = floor(fnr m);  |{good: s >= t}| / n

    The threshold is set on the labels it is measured on, so the number compares detectors on
    the same images and promises nothing on others.

    Args:
        scores: (n,) higher means more anomalous.
        defective: (n,) true or 1 where the image has a defect.
        fnr: fraction of the defects that may be missed, in [0, 1).

    Returns:
        The false-positive rate; None (not applicable) if only one class is present.

    Raises:
        DataError: the lengths differ, a label is neither 0 nor 1, or ``fnr`` is not in [0, 1).
        NumericalError: a score is not finite.

    >>> fpr_at_fnr([0.1, 0.6, 0.5, 0.7], [0, 0, 1, 1], fnr=0.0)
    0.5
    """
    if not 0.0 <= fnr < 1.0:
        raise DataError(f"fnr {fnr}: a fraction of the defects in [0, 1) is expected")
    values, truth = _checked(scores, defective)
    if _one_class(truth):
        return None
    defects = np.sort(values[truth])
    missed = math.floor(fnr * defects.size + 1e-9)  # 0.1 * 30 is below 3
    return float(np.mean(values[~truth] >= defects[missed]))
