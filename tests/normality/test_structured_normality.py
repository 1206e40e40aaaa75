from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import grad, vmap

from bayfed.normality import (
    DiagonalNIW,
    diagonal_posterior,
    diagonal_predictive,
    diagonal_statistics,
    log_evidence,
    low_rank_log_evidence,
    low_rank_posterior,
    low_rank_predictive,
    posterior,
    predictive,
    sufficient_statistics,
)

QUICK = settings(max_examples=25, deadline=None, derandomize=True)


def _priors(make_prior, dim, batch=()):
    full = make_prior(dim, batch=batch)
    diagonal = full.scale.diagonal(dim1=-2, dim2=-1)
    return full._replace(scale=torch.diag_embed(diagonal)), DiagonalNIW(*full[:3], diagonal)


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize(("dim", "count"), [(1, 1), (6, 3), (40, 5), (3, 8)])
def test_low_rank_equals_full(make_prior, vectors, dim, count, batch):
    full, diagonal = _priors(make_prior, dim, batch)
    z, x = vectors(*batch, count, dim), vectors(*batch, 7, dim, key="query")
    weights = vectors(*batch, count, key="weights").exp()
    stats = sufficient_statistics(z, weights)
    dense = predictive(posterior(full, stats))
    thin = low_rank_predictive(low_rank_posterior(diagonal, z, weights))
    torch.testing.assert_close(thin.log_prob(x), dense.log_prob(x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(thin.mahalanobis(x), dense.mahalanobis(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(thin.p_value(x), dense.p_value(x), rtol=1e-8, atol=1e-12)
    evidence = low_rank_log_evidence(diagonal, z, weights)
    torch.testing.assert_close(evidence, log_evidence(full, stats), rtol=1e-10, atol=1e-9)


@QUICK
@given(seed=st.integers(0, 30))
def test_diagonal_has_the_marginals_of_the_full_predictive(make_prior, vectors, seed):
    full, diagonal = _priors(make_prior, 4)
    z = vectors(5, 4, key=seed)
    dense = predictive(posterior(full, sufficient_statistics(z)))
    thin = diagonal_predictive(diagonal_posterior(diagonal, diagonal_statistics(z)))
    variances = (dense.scale_cholesky @ dense.scale_cholesky.mT).diagonal()
    torch.testing.assert_close(thin.scale, variances)
    torch.testing.assert_close(thin.location, dense.location)
    torch.testing.assert_close(thin.dof, dense.dof)


def test_diagonal_equals_full_and_low_rank_where_nothing_is_off_the_diagonal(make_prior, vectors):
    full, diagonal = _priors(make_prior, 3)
    # Mirrored pairs along the axes around the prior mean: no correlation at all.
    steps = torch.diag(torch.tensor([0.5, 1.0, 2.0], dtype=torch.double))
    z = full.mean + torch.cat([steps, -steps])
    x = vectors(4, 3, key="query")
    dense = predictive(posterior(full, sufficient_statistics(z)))
    thin = diagonal_predictive(diagonal_posterior(diagonal, diagonal_statistics(z)))
    low = low_rank_predictive(low_rank_posterior(diagonal, z))
    torch.testing.assert_close(thin.log_prob(x), dense.log_prob(x))
    torch.testing.assert_close(thin.p_value(x), dense.p_value(x))
    torch.testing.assert_close(low.log_prob(x), dense.log_prob(x))


def _diagonal_loss(mean, kappa, nu, scale, z):
    prior = DiagonalNIW(mean, kappa.exp(), 1 + nu.exp(), scale.exp())
    return diagonal_predictive(diagonal_posterior(prior, diagonal_statistics(z))).log_prob(z).sum()


def _low_rank_loss(mean, kappa, nu, scale, z):
    prior = DiagonalNIW(mean, kappa.exp(), 1 + nu.exp(), scale.exp())
    law = low_rank_predictive(low_rank_posterior(prior, z))
    return law.log_prob(z).sum() + low_rank_log_evidence(prior, z)


@pytest.mark.parametrize("loss", [_diagonal_loss, _low_rank_loss])
def test_derivatives_and_vmap(loss, vectors):
    scalars = 0.3 * vectors(3, 2)
    batch = (vectors(3, 2), scalars[:, 0], scalars[:, 1], vectors(3, 2), vectors(3, 3, 2))
    single = tuple(value[0].clone().requires_grad_() for value in batch)
    assert torch.autograd.gradcheck(loss, single, fast_mode=True)
    assert torch.autograd.gradgradcheck(loss, single, fast_mode=True)
    derivative = grad(loss, argnums=4)
    expected = torch.stack([derivative(*item) for item in zip(*batch, strict=True)])
    torch.testing.assert_close(vmap(derivative)(*batch), expected)


def test_low_rank_forms_nothing_of_size_d_squared():
    dim = 200_000  # a d x d float32 matrix would take 160 GB
    prior = DiagonalNIW(
        torch.zeros(dim), torch.tensor(1.0), torch.tensor(dim + 1.0), torch.ones(dim)
    )
    z = torch.linspace(-1, 1, 3 * dim).reshape(3, dim)
    law = low_rank_predictive(low_rank_posterior(prior, z))
    assert bool(law.log_prob(z).isfinite().all())
