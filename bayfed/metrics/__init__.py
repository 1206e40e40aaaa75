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
from bayfed.metrics.dissimilarity import (
    Spread,
    bures_squared,
    gaussian_dissimilarity,
    gradient_diversity,
    wasserstein_distances,
)
from bayfed.metrics.intervals import (
    Interval,
    mean_interval,
    paired_interval,
    share_interval,
)
from bayfed.metrics.localisation import aupro, localisation, pixel_auroc
from bayfed.metrics.regions import label_regions, scale_regions

__all__ = [
    "Interval",
    "Spread",
    "aupro",
    "bures_squared",
    "coverage",
    "expected_calibration_error",
    "f1_max",
    "fnr_at",
    "fpr_at",
    "fpr_at_fnr",
    "gaussian_dissimilarity",
    "gradient_diversity",
    "image_auprc",
    "image_auroc",
    "ks_uniform",
    "label_regions",
    "localisation",
    "mean_interval",
    "paired_interval",
    "pixel_auroc",
    "scale_regions",
    "share_interval",
    "wasserstein_distances",
]
