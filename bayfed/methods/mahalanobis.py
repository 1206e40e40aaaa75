"""Pooled Mahalanobis: one Gaussian of the images' pooled features.

Rippel et al. sum the distances of several levels of a backbone; here the levels are one
vector, as the encoder stacks them.

Source: Rippel et al. 2021, "Modeling the Distribution of Normal Data in Pre-Trained Deep
Features for Anomaly Detection".
"""

from __future__ import annotations

import torch
from torch import Tensor

from bayfed.features import Params
from bayfed.methods.low_rank_gaussian import LowRankGaussian, low_rank_gaussian
from bayfed.methods.untrained import Untrained

SMALLEST = 0.01
"""Least shrinkage: of two images the estimator has no residual, and asks for none."""


class Mahalanobis(Untrained[LowRankGaussian]):
    """The method; see :class:`bayfed.methods.untrained.Untrained`."""

    name = "mahalanobis"

    def fit(self, params: Params, tokens: Tensor) -> LowRankGaussian:
        r"""Fit a Gaussian with a shrunk covariance to ``(k, 1, c)`` pooled tokens.

        .. math::
            \Sigma = (1 - s) S + s \tfrac{\operatorname{tr} S}{c} I, \quad
            S = \tfrac1k \sum_i (x_i - \mu)(x_i - \mu)^\top

        with :math:`s` after Ledoit and Wolf. Images without any spread, such as one alone,
        have :math:`\Sigma = I`: their distances are Euclidean.

        Source: Rippel et al. 2021, equation 1; Ledoit and Wolf 2004, section 3.2, for the
        shrinkage.
        """
        del params
        samples = tokens.flatten(0, 1).double()
        mean = samples.mean(0)
        centred = samples - mean
        level = float(centred.square().mean())
        if level == 0:
            return low_rank_gaussian(mean, centred, torch.tensor(1.0))
        from sklearn.covariance import ledoit_wolf_shrinkage  # late: only this system needs it

        shrinkage = ledoit_wolf_shrinkage(centred.cpu().numpy(), assume_centered=True)
        shrinkage = max(float(shrinkage), SMALLEST)
        root = centred * ((1 - shrinkage) / len(samples)) ** 0.5
        return low_rank_gaussian(mean, root, torch.tensor(shrinkage * level))

    def compare(
        self, params: Params, model: LowRankGaussian, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the Mahalanobis distance of each image, which is its one token."""
        del params
        distance = model.distance(tokens.flatten(0, 1))
        return distance, distance[:, None]
