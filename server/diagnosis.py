"""What the sums over clients say of the meta-objective."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from bayfed.metrics.dissimilarity import gaussian_dissimilarity
from bayfed.normality.empirical_bayes import EvidenceSums, implausible
from server.sums import Total, Unlikely
from strategies.outer import split
from strategies.schema import mismatch
from strategies.server_optimizers import moved_of
from strategies.task import Params, norm

APART = ("statistics_distance", "statistics_share")
NAMES = ("objective", "slope", "dissimilarity", "inner_gain", *APART)
"""Columns of the history that a diagnosis fills."""
GRADIENT = "gradient/"
COMPARED = 64
"""Clients whose normals are compared with each other; the effort is quadratic in them."""


def unlikely(theta: Params, rates: Mapping[str, float]) -> Unlikely:
    """Return what tells why a client's sums cannot be those at ``theta``.

    Args:
        theta: The shared meta-parameters.
        rates: Multipliers of the server; parameters of rate 0 have no part in the gradient.
    """
    slopes = {f"{GRADIENT}{name}": t.double() for name, t in moved_of(theta, rates).items()}
    number = torch.zeros((), dtype=torch.float64)
    template = {**slopes, **dict.fromkeys(("square", "objective", "inner_gain"), number)}

    def judge(tensors: Mapping[str, Tensor]) -> str | None:
        if reason := mismatch(dict(tensors), template):
            return reason
        length, square = norm({name: tensors[name] for name in slopes}), float(tensors["square"])
        sound = math.isclose(length**2, square, rel_tol=1e-6, abs_tol=1e-30)
        return None if sound else f"the squared norm of its gradient is not {square:.3g}"

    return judge


def unlikely_statistics(tensors: Mapping[str, Tensor]) -> str | None:
    """Return why a client's tensors cannot be its statistics, one normal model's or several."""
    ends = [name for name in tensors if name.endswith("within")]
    for prefix in (name.removesuffix("within") for name in ends):
        fields = {f: tensors.get(f"{prefix}{f}") for f in EvidenceSums._fields}
        present = {name: value for name, value in fields.items() if value is not None}
        if len(present) < len(fields):
            missing = min(fields.keys() - present.keys())
            return f"tensor {prefix + missing!r} is missing"
        if reason := implausible(EvidenceSums(**present)):
            return reason
    return None


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
    gradient, rest = split(total.tensors, GRADIENT)
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
