"""What the sums over clients say of the meta-objective."""

from __future__ import annotations

import math

from server.sums import Total
from strategies.outer import split
from strategies.task import norm

NAMES = ("objective", "slope", "dissimilarity", "inner_gain")
"""Columns of the history that a diagnosis fills."""


def diagnosed(total: Total) -> dict[str, float]:
    r"""Return F, its squared slope, how unlike the clients' gradients are, and the inner gain.

    .. math::
        F = \frac{1}{N} \sum_c F_c, \quad \lVert \nabla F \rVert^2, \quad
        \frac{\frac{1}{N} \sum_c \lVert \nabla F_c - \nabla F \rVert^2}{\lVert \nabla F \rVert^2}
        = \frac{\frac{1}{N} \sum_c \lVert \nabla F_c \rVert^2}{\lVert \nabla F \rVert^2} - 1

    :math:`F_c` is the meta-objective of client c on its frozen episodes, N the number of clients
    that train. The third is 0 where all clients have one gradient.

    Sources: Karimireddy et al., SCAFFOLD, 2020, assumption A1, whose :math:`B^2` is the third
    plus 1 where G = 0; Yin et al., Gradient Diversity, 2018, definition 2, whose diversity is the
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
    return {name: float(f"{value:.9g}") for name, value in zip(NAMES, found, strict=True)}
