"""Cholesky factors that one bad matrix in a batch cannot spoil."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bayfed.errors import NumericalError

JITTER_STEPS = (1e-6, 1e-5, 1e-4, 1e-3)
"""Jitter tried in turn, as a fraction of the mean diagonal.

The first exceeds the rounding of a rank-deficient float32 scatter; a matrix that the last does not
mend is indefinite, not ill-conditioned.
"""


def _column(batch: Tensor) -> Tensor:
    return batch[..., None, None]


def _identity_like(matrix: Tensor) -> Tensor:
    return torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)


def _cannot_be_factored(matrix: Tensor) -> Tensor:
    factor, info = torch.linalg.cholesky_ex(matrix)
    # A GPU may report success for NaN; the comparison is false for NaN and for infinity.
    finite: Tensor = factor.diagonal(dim1=-2, dim2=-1).sum(-1) < torch.inf
    failed: Tensor = (info != 0) | ~finite
    return failed


def _search_jitter(symmetric: Tensor) -> Tensor:
    failed = _cannot_be_factored(symmetric)
    jitter = torch.zeros(failed.shape, dtype=symmetric.dtype, device=symmetric.device)
    if not bool(failed.any()):
        return jitter
    level = symmetric.diagonal(dim1=-2, dim2=-1).abs().mean(-1)
    level = torch.where(level > 0, level, 1.0)
    identity = _identity_like(symmetric)
    for step in JITTER_STEPS:
        jitter = torch.where(failed, step * level, jitter)
        failed = failed & _cannot_be_factored(symmetric + _column(jitter) * identity)
    return torch.where(failed, torch.nan, jitter)


class _Jitter(torch.autograd.Function):
    """The search as one non-differentiable operation, whose vmap rule sees the whole batch.

    That rule is what lets a batch without bad matrices pay for one extra factorisation only.
    """

    @staticmethod
    def forward(symmetric: Tensor) -> Tensor:
        return _search_jitter(symmetric)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> None:  # noqa: ARG004
        return None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], symmetric: Tensor) -> tuple[Tensor, int]:  # noqa: ARG004
        return _Jitter.apply(symmetric.movedim(in_dims[0], 0)), 0


def _needed_jitter(symmetric: Tensor) -> Tensor:
    jitter: Tensor = _Jitter.apply(symmetric.detach())
    return jitter


def cholesky_jitter(matrix: Tensor) -> Tensor:
    r"""Return what :func:`safe_cholesky` adds to the diagonal of each matrix of a batch.

    Args:
        matrix: :math:`A`, ``(..., d, d)``.

    Returns:
        ``(...)``, in the units of :math:`A`: 0 where none is needed, NaN where none helps.

    >>> cholesky_jitter(torch.stack([torch.eye(2), -torch.eye(2)])).tolist()
    [0.0, nan]
    """
    return _needed_jitter(0.5 * (matrix + matrix.mT))


def safe_cholesky(matrix: Tensor) -> Tensor:
    r"""Return the lower Cholesky factor of each matrix of a batch, with jitter where it needs some.

    .. math:: L L^\top = \tfrac12 (A + A^\top) + \epsilon I

    with the smallest :math:`\epsilon` of 0 and ``JITTER_STEPS`` times the mean diagonal that
    makes the matrix definite, chosen for each matrix alone. The jitter is a constant to autograd,
    so a mended matrix has finite gradients. A matrix beyond mending yields a NaN factor and no
    gradient, and leaves the others as they are; see :func:`check_finite`.

    Args:
        matrix: :math:`A`, ``(..., d, d)``.

    Returns:
        :math:`L`, ``(..., d, d)``.

    >>> safe_cholesky(torch.tensor([[4.0, 2.0], [2.0, 5.0]])).tolist()
    [[2.0, 0.0], [1.0, 2.0]]
    >>> bool(safe_cholesky(torch.ones(3, 3)).isfinite().all())
    True
    """
    symmetric = 0.5 * (matrix + matrix.mT)
    jitter = _needed_jitter(symmetric)
    beyond, identity = _column(jitter.isnan()), _identity_like(symmetric)
    # Replacing the bad matrix before the factorisation keeps NaN out of its backward pass as well.
    mended = torch.where(beyond, identity, symmetric + _column(jitter) * identity)
    factor: Tensor = torch.linalg.cholesky_ex(mended).L
    return torch.where(beyond, torch.nan, factor)


def check_finite(value: Tensor, name: str, event_dims: int = 0) -> None:
    """Raise if a batch holds a value that is not finite; to be called outside vmap.

    Args:
        value: ``(..., *event)``.
        name: what the message calls it.
        event_dims: number of trailing dimensions that are not batch.

    Raises:
        NumericalError: naming ``name`` and the first bad batch index.

    >>> check_finite(torch.tensor([0.0, torch.nan]), "loss")
    Traceback (most recent call last):
    bayfed.errors.NumericalError: loss is not finite at batch index 1
    """
    raise_where(~value.isfinite(), f"{name} is not finite", event_dims)


def raise_where(bad: Tensor, message: str, event_dims: int = 0) -> None:
    """Raise ``message`` with the first batch index at which ``bad`` holds; outside vmap only.

    Args:
        bad: ``(..., *event)``, boolean.
        message: what is wrong.
        event_dims: number of trailing dimensions that are not batch.

    Raises:
        NumericalError: if ``bad`` holds anywhere.

    >>> raise_where(torch.tensor([False, False]), "kappa is not positive")
    """
    if not bool(bad.any()):
        return
    index = bad.nonzero()[0].tolist()[: bad.ndim - event_dims]
    place = ", ".join(str(i) for i in index)
    raise NumericalError(f"{message} at batch index {place}" if index else message)
