"""What the sums over clients say of the meta-objective."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bayfed.metrics.dissimilarity import gaussian_dissimilarity
from bayfed.normality.empirical_bayes import EvidenceSums
from server.sums import Total
from strategies.outer import split
from strategies.task import norm

APART = ("statistics_distance", "statistics_share")
NAMES = ("objective", "slope", "dissimilarity", "inner_gain", *APART)
"""Columns of the history that a diagnosis fills."""
COMPARED = 64
"""Clients whose normals are compared with each other; the effort is quadratic in them."""


def diagnosed(total: Total) -> dict[str, float]:
    r"""Return F, its squared slope, how unlike the clients' gradients are, and the inner gain.

    .. math::
        F = \frac{1}{N} \sum_c F_c, \quad \lVert \nabla F \rVert^2, \quad
        \frac{\frac{1}{N} \sum_c \lVert \nabla F_c - \nabla F \rVert^2}{\lVert \nabla F \rVert^2}
        = \frac{\frac{1}{N} \sum_c \lVert \nabla F_c \rVert^2}{\lVert \nabla F \rVert^2} - 1

    :math:`F_c` is the meta-objective of client c on its frozen episodes, N the number of clients
    that train. The third is 0 where all clients have one gradient.

    Sources: Karimireddy et al., SCAFFOLD, 2020, assumption A1, whose :math:`B^2` is the third
    plus 1 where G = 0; Yin et al., Gradient Diversity, 2018, definition 1, whose diversity is the
    third plus 1, over N.

    Args:
        total: The sums of :func:`clients.diagnosis.diagnose`.
    """
    number = total.clients
    gradient, rest = split(total.tensors, "gradient/")
    means = {name: float(value) / number for name, value in rest.items()}
    slope = (norm(gradient) / number) ** 2
    unlike = means["square"] / slope - 1 if slope else math.nan
    found = means["objective"], slope, unlike, means["inner_gain"]
    return {name: float(f"{value:.9g}") for name, value in zip(NAMES, found, strict=False)}


def apart(each: Sequence[dict[str, Tensor]]) -> dict[str, float]:
    """Return how far the normals of factories lie apart, from what they add to empirical Bayes.

    They are taken for Gaussians, see :func:`bayfed.metrics.dissimilarity.gaussian_dissimilarity`.
    Of many factories the first are compared.

    Args:
        each: The additive statistics of single factories; others than those say nothing.
    """
    known = [EvidenceSums(**sums) for sums in each if sums.keys() == set(EvidenceSums._fields)]
    if len(known) < 2:
        return {}
    chosen = known[:COMPARED]
    means = torch.stack([sums.mean / sums.sites for sums in chosen])
    within = torch.stack([sums.within / sums.count for sums in chosen])
    # A factory of several sites is as wide as they are apart.
    between = torch.stack([sums.mean_outer / sums.sites for sums in chosen])
    between = between - means[:, :, None] * means[:, None]
    found = gaussian_dissimilarity(means, within + between)
    return dict(zip(APART, (float(f"{x:.6g}") for x in found), strict=True))
