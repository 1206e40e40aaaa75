"""The Normal-Inverse-Wishart model of normality: posterior, predictive, evidence, calibration.

Shapes are written ``batch x n x d``: any leading batch, then observations, then dimensions.
"""

from bayfed.normality.calibration import reference, standardise, support_spread
from bayfed.normality.diagonal import (
    DiagonalNIW,
    DiagonalStatistics,
    DiagonalT,
    diagonal_posterior,
    diagonal_predictive,
    diagonal_statistics,
)
from bayfed.normality.empirical_bayes import EvidenceSums, evidence_sums, fit_prior
from bayfed.normality.epistemic import distance_moments
from bayfed.normality.linalg import (
    check_finite,
    cholesky_jitter,
    raise_where,
    safe_cholesky,
)
from bayfed.normality.low_rank import (
    LowRankNIW,
    LowRankT,
    low_rank_log_evidence,
    low_rank_posterior,
    low_rank_predictive,
)
from bayfed.normality.niw import (
    NIW,
    check_proper,
    leave_one_out,
    log_determinant,
    log_evidence,
    posterior,
    predictive,
)
from bayfed.normality.p_values import f_law_p_value
from bayfed.normality.packed import pack, unpack
from bayfed.normality.score_histogram import ScoreHistogram, score_histogram
from bayfed.normality.statistics import (
    SufficientStatistics,
    merge,
    pool,
    pool_others,
    project,
    sufficient_statistics,
    temper,
)
from bayfed.normality.student_t import StudentT

__all__ = [
    "NIW",
    "DiagonalNIW",
    "DiagonalStatistics",
    "DiagonalT",
    "EvidenceSums",
    "LowRankNIW",
    "LowRankT",
    "ScoreHistogram",
    "StudentT",
    "SufficientStatistics",
    "check_finite",
    "check_proper",
    "cholesky_jitter",
    "diagonal_posterior",
    "diagonal_predictive",
    "diagonal_statistics",
    "distance_moments",
    "evidence_sums",
    "f_law_p_value",
    "fit_prior",
    "leave_one_out",
    "log_determinant",
    "log_evidence",
    "low_rank_log_evidence",
    "low_rank_posterior",
    "low_rank_predictive",
    "merge",
    "pack",
    "pool",
    "pool_others",
    "posterior",
    "predictive",
    "project",
    "raise_where",
    "reference",
    "safe_cholesky",
    "score_histogram",
    "standardise",
    "sufficient_statistics",
    "support_spread",
    "temper",
    "unpack",
]
