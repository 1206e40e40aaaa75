"""Ratios of gamma functions that keep their digits at large arguments."""

from __future__ import annotations

import torch
from torch import Tensor

SHIFT = 8
"""Recurrence steps before Stirling's series, whose error is below 2e-14 from this argument on."""
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
"""Coefficients B_2k / (2k (2k - 1)) of Stirling's series."""


def _stirling_tail(x: Tensor) -> Tensor:
    inverse = 1 / x
    square = inverse * inverse
    total = torch.zeros_like(x)
    for coefficient in reversed(STIRLING):
        total = total * square + coefficient
    return total * inverse


def log_gamma_ratio(x: Tensor, step: Tensor | float) -> Tensor:
    r"""Return the log ratio of two gamma functions, less its leading term.

    .. math:: r(x, s) = \ln\Gamma(x + s) - \ln\Gamma(x) - s \ln x

    It vanishes as :math:`x \to \infty`, where the difference of two ``lgamma`` has lost all its
    digits; the absolute error is a few rounding units of :math:`s`. Smooth in both arguments.

    Args:
        x: :math:`x > 0`, ``(...)``.
        step: :math:`s \ge 0`, broadcast against ``x``.

    Source: Abramowitz and Stegun (1964), 6.1.15 (recurrence) and 6.1.41 (Stirling's series).

    >>> x = torch.tensor([0.5, 1e10])
    >>> [round(value, 4) for value in log_gamma_ratio(x, 0.5).tolist()]
    [-0.2258, 0.0]
    """
    step = torch.as_tensor(step, dtype=x.dtype, device=x.device)
    shifted = x + SHIFT
    stirling = (shifted - 0.5) * torch.log1p(step / shifted) - step
    stirling = stirling + step * torch.log1p((SHIFT + step) / x)
    stirling = stirling + _stirling_tail(shifted + step) - _stirling_tail(shifted)
    steps = torch.arange(SHIFT, dtype=x.dtype, device=x.device)
    recurrence = torch.log1p(step[..., None] / (x[..., None] + steps)).sum(-1)
    return stirling - recurrence


def multivariate_log_gamma_difference(x: Tensor, step: Tensor, dim: int) -> Tensor:
    r"""Return the log ratio of two multivariate gamma functions.

    .. math::
        \ln\Gamma_d(x + s) - \ln\Gamma_d(x)
        = \sum_{i=0}^{d-1} r\bigl(x - \tfrac i2, s\bigr) + s \ln\bigl(x - \tfrac i2\bigr)

    Args:
        x: :math:`x > (d - 1) / 2`, ``(...)``.
        step: :math:`s \ge 0`, ``(...)``.
        dim: :math:`d`.

    Source: Murphy (2007), appendix on the Wishart density, for the definition of
    :math:`\Gamma_d`.

    >>> one = torch.ones(())
    >>> round(float(multivariate_log_gamma_difference(3 * one, one, 1)), 4)  # ln Γ(4) / Γ(3)
    1.0986
    """
    halves = 0.5 * torch.arange(dim, dtype=x.dtype, device=x.device)
    arguments, steps = x[..., None] - halves, step[..., None]
    return (log_gamma_ratio(arguments, steps) + steps * arguments.log()).sum(-1)
