"""How much better a broad law explains a token than the predictive of normal tokens."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from bayfed.config import Broad
from bayfed.features import Params
from bayfed.methods.few import EmbeddedT
from bayfed.methods.folded import FoldedT
from bayfed.normality.student_t import log_density

Law = FoldedT | EmbeddedT
INFLATION = "score.inflation"
CERTAIN = 1e8
"""Degrees of freedom beyond which a Student-t is a Gaussian, and float32 keeps its digits."""
INITIAL_INFLATION = 4.0
"""How much broader the law of a defect is than the predictive, in squared units, at round 0."""


def certain(law: Law) -> Law:
    """Return the Gaussian with the location and the scale of a Student-t.

    >>> from bayfed.methods.folded import FoldedT
    >>> one = torch.ones(1)
    >>> certain(FoldedT(one, one, one, one, one)).dof.item() == CERTAIN
    True
    """
    if isinstance(law, EmbeddedT):
        return law._replace(law=law.law._replace(dof=torch.full_like(law.dof, CERTAIN)))
    return law._replace(dof=torch.full_like(law.dof, CERTAIN))


def initial_inflation() -> Params:
    r"""Return the parameter of :func:`inflated`, whose softplus is :math:`\ln\lambda`."""
    return {INFLATION: torch.tensor(INITIAL_INFLATION).log().expm1().log()}


def inflated(params: Params, law: Law, inputs: Tensor) -> Tensor:
    r"""Return the log-odds, per dimension, of the law made broader against the law itself.

    .. math::
        \frac1d \ln\frac{t_v(z; m, \lambda\Sigma)}{t_v(z; m, \Sigma)} = -\tfrac12\ln\lambda
        + \frac{v + d}{2 d} \left[\ln\left(1 + \tfrac{\Delta^2}{v}\right)
        - \ln\left(1 + \tfrac{\Delta^2}{\lambda v}\right)\right]

    It grows with the distance and levels off at :math:`\tfrac{v}{2d}\ln\lambda`, so one wild
    token cannot outvote the rest.

    Args:
        params: ``score.inflation``, whose softplus is :math:`\ln\lambda > 0`.
        law: The predictive of :math:`z`; one for all inputs, or one for each leading index.
        inputs: ``(n, t, c)``.

    Returns:
        Nats per dimension, ``(n, t)``.
    """
    return inflated_at(params, law.distance(inputs), law.dof[..., None], law.location.shape[-1])


def inflated_at(params: Params, distance: Tensor, dof: Tensor, dim: int) -> Tensor:
    r"""Return :func:`inflated` at squared distances :math:`\Delta^2`, ``(...)``."""
    log_inflation = F.softplus(params[INFLATION])
    ratio = distance / dof
    gap = torch.log1p(ratio) - torch.log1p(ratio * (-log_inflation).exp())
    return 0.5 * ((dof + dim) / dim * gap - log_inflation)


def slope(params: Params, law: Law, distance: Tensor) -> Tensor:
    r"""Return how a surprise grows with the squared distance under the law.

    .. math::
        \frac{v + d}{2 d} \left[\frac{1}{v + \Delta^2} - \frac{1}{\lambda v + \Delta^2}\right]

    without the second term where the broad law is fixed, since it does not know the posterior.

    Args:
        params: Whose ``score.inflation`` tells :math:`\lambda`, where the broad law is inflated.
        law: The predictive.
        distance: :math:`\Delta^2`, ``(...)``.

    Returns:
        Nats per dimension and unit of :math:`\Delta^2`, ``(...)``.
    """
    dof, dim = law.dof, law.location.shape[-1]
    fall = 1 / (dof + distance)
    if INFLATION in params:
        fall = fall - 1 / (F.softplus(params[INFLATION]).exp() * dof + distance)
    return 0.5 * (dof + dim) / dim * fall


def fixed(settings: Broad, law: Law, inputs: Tensor, embedded: Tensor) -> Tensor:
    r"""Return the log-odds, per dimension, of a fixed broad law against the predictive.

    .. math:: \frac1d \left[\ln t_{v_0}(z; 0, s I) - \ln t_v(z; m, \Sigma)\right]

    Behind LayerNorm, where :math:`\lVert z \rVert` is constant, the first term is so too.

    Args:
        settings: :math:`v_0` and :math:`s`.
        law: The predictive of :math:`z`; one for all inputs, or one for each leading index.
        inputs: ``(n, t, c)``, what the law is a function of.
        embedded: :math:`z`, ``(n, t, d)``.

    Returns:
        Nats per dimension, ``(n, t)``.

    Source: arXiv 2601.19992, the published score (:math:`v_0 = 2`, :math:`s = 100`).
    """
    dim = embedded.shape[-1]
    distance = embedded.square().sum(-1) / settings.scale
    half, dof = (
        torch.tensor(value, dtype=distance.dtype, device=distance.device)
        for value in (0.5 * dim * math.log(settings.scale), settings.dof)
    )
    broad = log_density(distance, half, dof, dim)
    return (broad - law.log_prob(inputs)) / dim
