"""Refinement of a fitted prior by the evidence of several sites."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bayfed.normality.linalg import check_finite
from bayfed.normality.niw import NIW, check_proper, log_evidence
from bayfed.normality.statistics import SufficientStatistics

LARGEST_CHANGE = math.log(1e3)
"""Bound of the search: each of the three scalars changes at most by this factor."""


def rescale_prior(prior: NIW, log_changes: Tensor) -> NIW:
    r"""Return a prior whose strength parameters are multiplied.

    .. math::
        \kappa_0 \mapsto e^{a} \kappa_0, \quad
        \nu_0 - (d - 1) \mapsto e^{b} (\nu_0 - (d - 1)), \quad \Psi_0 \mapsto e^{c} \Psi_0

    Args:
        prior: without batch shape.
        log_changes: :math:`(a, b, c)`, ``(3,)``.

    >>> prior = NIW(torch.zeros(1), torch.tensor(2.0), torch.tensor(3.0), torch.eye(1))
    >>> rescale_prior(prior, torch.zeros(3)) == prior
    True
    """
    least = prior.mean.shape[-1] - 1
    kappa, dof, strength = log_changes.exp().unbind(-1)
    return NIW(
        prior.mean, kappa * prior.kappa, least + dof * (prior.nu - least), strength * prior.scale
    )


def maximise_evidence(sites: SufficientStatistics, prior: NIW) -> NIW:
    r"""Scale ``kappa0``, the extra degrees of freedom and ``Psi0`` to maximise the evidence.

    .. math:: \max_{a, b, c} \sum_s \ln p(z_s \mid \mathrm{prior}(a, b, c))

    in the three log factors of :func:`rescale_prior`, by L-BFGS-B with exact gradients from
    (0, 0, 0); mean and shape of the covariance stay. The objective is a sum over sites, so each
    could compute its own term; the search itself needs the statistics of all.

    Args:
        sites: batch shape ``(s,)``; tempered where observations are dependent.
        prior: the start, without batch shape, such as :func:`fit_prior` gives.

    Returns:
        A prior whose evidence is at least that of the start, in its type.

    Raises:
        NumericalError: the prior is improper, or the evidence at the start is not finite.

    Source: Murphy (2007), equation 266, as a function of the prior (type II maximum likelihood).

    >>> site = SufficientStatistics(torch.tensor([4.0]), torch.zeros(1, 1), torch.ones(1, 1, 1))
    >>> prior = NIW(torch.zeros(1), torch.tensor(1.0), torch.tensor(2.0), torch.eye(1))
    >>> better = maximise_evidence(site, prior)
    >>> bool(log_evidence(better, site) > log_evidence(prior, site))
    True
    """
    from scipy import optimize  # late: a prior is fitted once in a run, by the server

    check_proper(prior)
    exact_prior = NIW(*(value.detach().cpu().double() for value in prior))
    exact_sites = SufficientStatistics(*(value.detach().cpu().double() for value in sites))
    check_finite(log_evidence(exact_prior, exact_sites), "log evidence of the site")

    def objective(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        changes = torch.tensor(point, dtype=torch.double, requires_grad=True)
        loss = -log_evidence(rescale_prior(exact_prior, changes), exact_sites).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        gradient = changes.grad if changes.grad is not None else torch.zeros_like(changes)
        return float(loss.detach()), gradient.numpy()

    bounds = [(-LARGEST_CHANGE, LARGEST_CHANGE)] * 3
    found = optimize.minimize(objective, np.zeros(3), jac=True, method="L-BFGS-B", bounds=bounds)
    best = rescale_prior(exact_prior, torch.tensor(found.x, dtype=torch.double))
    return NIW(*(new.to(old) for new, old in zip(best, prior, strict=True)))
