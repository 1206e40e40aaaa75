"""The Normal-Inverse-Wishart prior as named, unconstrained meta-parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bayfed.config import Prior as PriorSettings
from bayfed.features import Params
from bayfed.normality import NIW, EvidenceSums, fit_prior, safe_cholesky


def initial_prior(dim: int, settings: PriorSettings, sums: EvidenceSums | None) -> Params:
    r"""Return the prior's parameters at round 0.

    ``prior.mean`` :math:`m_0`, ``(d,)``; ``prior.log_kappa`` :math:`\ln\kappa_0`;
    ``prior.log_dof`` :math:`\ln(\nu_0 - d + 1)`; and :math:`\Psi_0` by
    ``settings.covariance``: ``prior.log_scale`` ``()`` or ``(d,)`` (log diagonal), or
    ``prior.factor`` ``(d, d)`` (Cholesky factor, log diagonal).

    Args:
        dim: :math:`d`.
        settings: Values for a fixed prior.
        sums: The factories' additive statistics of embeddings, for empirical Bayes.
    """
    prior = (
        _fixed(dim, settings)
        if sums is None
        else fit_prior(sums, settings.extra_dof, settings.scale * settings.extra_dof)
    )
    params = {
        "prior.mean": prior.mean.float(),
        "prior.log_kappa": prior.kappa.log().float(),
        "prior.log_dof": (prior.nu - dim + 1).log().float(),
    }
    diagonal = prior.scale.diagonal()
    if settings.covariance == "full":
        factor = safe_cholesky(prior.scale)
        params["prior.factor"] = (factor.tril(-1) + factor.diagonal().log().diag()).float()
    elif settings.covariance == "diagonal":
        params["prior.log_scale"] = diagonal.log().float()
    else:
        params["prior.log_scale"] = diagonal.mean().log().float()
    return params


def _fixed(dim: int, settings: PriorSettings) -> NIW:
    return NIW(
        mean=torch.zeros(dim),
        kappa=torch.tensor(settings.kappa),
        nu=torch.tensor(dim - 1 + settings.extra_dof),
        scale=settings.scale * torch.eye(dim),
    )


def build_prior(params: Params) -> NIW:
    r"""Return the prior that unconstrained ``params`` stand for; always proper.

    >>> p = initial_prior(2, PriorSettings(scale=4.0, covariance="full"), None)
    >>> torch.allclose(build_prior(p).scale, 4 * torch.eye(2))
    True
    """
    mean = params["prior.mean"]
    dim = mean.shape[-1]
    return NIW(
        mean=mean,
        kappa=prior_kappa(params),
        nu=dim - 1 + params["prior.log_dof"].exp(),
        scale=_scale_matrix(params, dim),
    )


def prior_kappa(params: Params) -> Tensor:
    r"""Return the prior's :math:`\kappa_0`, ``()``."""
    return params["prior.log_kappa"].exp()


def _scale_matrix(params: Params, dim: int) -> Tensor:
    if "prior.factor" in params:
        raw = params["prior.factor"]
        factor = raw.tril(-1) + raw.diagonal().exp().diag()
        return factor @ factor.mT
    return params["prior.log_scale"].exp().expand(dim).diag()


def initial_effective(effective: float) -> Tensor:
    """Return the log of the effective observations an image contributes.

    >>> round(initial_effective(math.e).item(), 4)
    1.0
    """
    return torch.tensor(math.log(effective))
