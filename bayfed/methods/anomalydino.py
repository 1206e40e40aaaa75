"""AnomalyDINO's algorithm: the cosine distance to the nearest patch of the turned supports.

On whatever backbone is set; the paper's masking of the background is left out, as it needs
the principal components of DINOv2.

Source: Damm et al. 2024, "AnomalyDINO: Boosting Patch-based Few-shot Anomaly Detection with
DINOv2".
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from bayfed.config import AnomalyDINO as Settings
from bayfed.data.turned import rotations
from bayfed.features import Encoder, Params
from bayfed.methods.nearest import cosine_distance
from bayfed.methods.scoring import top_mean
from bayfed.methods.thinned import thinned
from bayfed.methods.untrained import Untrained


class Memory(NamedTuple):
    """The patches of the support, unit vectors ``(m, c)``."""

    patches: Tensor


class AnomalyDINO(Untrained[Memory]):
    """The method; see :class:`bayfed.methods.untrained.Untrained`."""

    name = "anomalydino"

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        super().__init__(settings, encoder)
        self.poses = rotations(settings.turns)
        self._top_k, self._patches = settings.top_k, settings.patches

    def fit(self, params: Params, tokens: Tensor) -> Memory:
        """Keep every patch, as a direction, or as many as a search can go through."""
        del params
        patches = tokens.flatten(0, 1)
        kept = thinned(len(patches), self._patches).to(patches.device)
        return Memory(F.normalize(patches[kept], dim=-1))

    def compare(self, params: Params, model: Memory, tokens: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return the distances to the memory, and the mean of the highest of each image.

        .. math::
            d(x) = \min_m \left(1 - \frac{x^\top m}{\|x\| \|m\|}\right), \quad
            s = \operatorname{mean}(H_{0.01}(\{d(x_j)\}_j))

        with :math:`H_{0.01}` the 1 % highest of an image's distances (``method.top_k``).

        Source: Damm et al. 2024, section 3.2.
        """
        del params
        queries = F.normalize(tokens.flatten(0, 1), dim=-1)
        distance = cosine_distance(queries, model.patches).view(tokens.shape[:2])
        return top_mean(distance, self._top_k), distance
