"""PaDiM: a Gaussian for each position of the grid.

Source: Defard et al. 2021, "PaDiM: a Patch Distribution Modeling Framework for Anomaly
Detection and Localization".
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from bayfed.config import PaDiM as Settings
from bayfed.features import Encoder, Params
from bayfed.methods.low_rank_gaussian import LowRankGaussian, low_rank_gaussian
from bayfed.methods.untrained import Untrained

CHANNELS = "channels"


class PaDiM(Untrained[LowRankGaussian]):
    """The method; see :class:`bayfed.methods.untrained.Untrained`."""

    name = "padim"

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        super().__init__(settings, encoder)
        self._settings = settings

    def draw(self, generator: Generator) -> Params:
        """Draw the channels that are kept, if there are more."""
        channels, kept = self._tail.channels, self._settings.channels
        if kept is None or channels <= kept:
            return {}
        return {CHANNELS: torch.randperm(channels, generator=generator)[:kept].sort().values}

    def fit(self, params: Params, tokens: Tensor) -> LowRankGaussian:
        r"""Fit one Gaussian a position to ``(k, t, c)`` tokens.

        .. math::
            \Sigma = \frac{1}{k - 1} \sum_i (x_i - \mu)(x_i - \mu)^\top + \varepsilon I

        with :math:`\mu` the mean of the ``k`` tokens :math:`x_i` at the position and
        :math:`\varepsilon` the setting ``method.ridge``; one image alone has :math:`\Sigma =
        \varepsilon I`. The rank is at most ``k - 1``, so no ``c x c`` matrix is formed.

        Source: Defard et al. 2021, equation 1.
        """
        samples = _kept(params, tokens).transpose(0, 1).double()
        mean = samples.mean(1)
        root = (samples - mean[:, None]) / max(1, len(tokens) - 1) ** 0.5
        return low_rank_gaussian(mean, root, torch.tensor(self._settings.ridge))

    def compare(
        self, params: Params, model: LowRankGaussian, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the Mahalanobis distance at each position, and the largest of each image.

        Source: Defard et al. 2021, equation 2 and section 3.3.
        """
        distance = model.distance(_kept(params, tokens).transpose(0, 1)).mT
        return distance.amax(-1), distance


def _kept(params: Params, tokens: Tensor) -> Tensor:
    return tokens[..., params[CHANNELS]] if CHANNELS in params else tokens
