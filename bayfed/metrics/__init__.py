"""Detection, localisation, calibration and intervals: arrays in, numbers out."""

from bayfed.metrics.calibration import coverage, expected_calibration_error, ks_uniform
from bayfed.metrics.detection import (
    f1_max,
    fnr_at,
    fpr_at,
    fpr_at_fnr,
    image_auprc,
    image_auroc,
)
from bayfed.metrics.intervals import Interval, mean_interval, paired_interval
from bayfed.metrics.localisation import aupro, localisation, pixel_auroc

__all__ = [
    "Interval",
    "aupro",
    "coverage",
    "expected_calibration_error",
    "f1_max",
    "fnr_at",
    "fpr_at",
    "fpr_at_fnr",
    "image_auprc",
    "image_auroc",
    "ks_uniform",
    "localisation",
    "mean_interval",
    "paired_interval",
    "pixel_auroc",
]
