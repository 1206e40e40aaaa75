"""PCA residual: the distance to the principal subspace of good tokens.

Source: the squared prediction error of Jackson and Mudholkar 1979, "Control Procedures for
Residuals Associated With Principal Component Analysis", on the tokens of a backbone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bayfed.config import PCAResidual as Settings
from bayfed.features import Encoder, Params
from bayfed.methods.scoring import top_mean
from bayfed.methods.untrained import Untrained


class Subspace(NamedTuple):
    """An affine subspace.

    Attributes:
        mean: ``(c,)``.
        basis: :math:`V`, ``(c, r)``, orthonormal columns.
    """

    mean: Tensor
    basis: Tensor


class PCAResidual(Untrained[Subspace]):
    """The method at either grain; see :class:`bayfed.methods.untrained.Untrained`."""

    name = "pca"

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        super().__init__(settings, encoder)
        self._settings = settings

    def fit(self, params: Params, tokens: Tensor) -> Subspace:
        """Fit the fewest principal axes of ``(k, t, c)`` tokens that hold the variance asked for.

        One direction at least is left out, or there would be no residual.
        """
        del params
        samples = tokens.flatten(0, 1)
        mean = samples.mean(0)
        variances, axes = principal_axes(samples - mean)
        held = variances.cumsum(0) / variances.sum().clamp(min=torch.finfo(variances.dtype).tiny)
        rank = min(int((held < self._settings.variance).sum()) + 1, tokens.shape[-1] - 1)
        return Subspace(mean, axes[:, :rank].contiguous())

    def compare(self, params: Params, model: Subspace, tokens: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return each token's squared residual, and the mean of the highest of each image.

        .. math:: Q = \|x - \mu\|^2 - \|V^\top (x - \mu)\|^2

        Source: Jackson and Mudholkar 1979, equation 2.1.
        """
        del params
        centred = tokens - model.mean
        residual = centred.square().sum(-1) - (centred @ model.basis).square().sum(-1)
        residual = residual.clamp(min=0)
        return top_mean(residual, self._settings.top_k), residual


def principal_axes(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Return the variances (up to a factor) and axes of ``(n, c)`` vectors, largest first.

    Returns:
        ``(r,)`` and orthonormal columns ``(c, r)``, ``r`` the lesser of ``n`` and ``c``.

    >>> principal_axes(torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))[0].tolist()
    [18.0, 2.0]
    """
    number, channels = centred.shape
    if number < channels:
        _, singular, axes = torch.linalg.svd(centred.double(), full_matrices=False)
        return singular.square().float(), axes.mT.float()
    scatter = centred.double().mT @ centred.double()
    values, vectors = torch.linalg.eigh(scatter)
    return values.flip(0).clamp(min=0).float(), vectors.flip(1).float()
