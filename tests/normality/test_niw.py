from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from bayfed.errors import NumericalError
from bayfed.normality import (
    NIW,
    check_proper,
    leave_one_out,
    log_evidence,
    posterior,
    predictive,
    sufficient_statistics,
    temper,
)
from bayfed.seeds import stream

QUICK = settings(max_examples=25, deadline=None, derandomize=True)


def _assert_equal(left, right, tolerance=1e-9):
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_posterior_by_hand(make_prior, vectors):
    prior, z = make_prior(3), vectors(5, 3)
    m0, k0, n0, psi = (field.numpy() for field in prior)
    mean = z.numpy().mean(0)
    scatter = (z.numpy() - mean).T @ (z.numpy() - mean)
    result = posterior(prior, sufficient_statistics(z))
    np.testing.assert_allclose(result.mean, (k0 * m0 + 5 * mean) / (k0 + 5))
    np.testing.assert_allclose(result.kappa, k0 + 5)
    np.testing.assert_allclose(result.nu, n0 + 5)
    shift = k0 * 5 / (k0 + 5) * np.outer(mean - m0, mean - m0)
    np.testing.assert_allclose(result.scale, psi + scatter + shift)


def test_predictive_equals_scipy(make_prior, vectors):
    niw = make_prior(6)
    dof = float(niw.nu) - 5
    shape = niw.scale.numpy() * (float(niw.kappa) + 1) / (float(niw.kappa) * dof)
    reference = stats.multivariate_t(niw.mean.numpy(), shape, df=dof)
    x = vectors(8, 6)
    np.testing.assert_allclose(predictive(niw).log_prob(x), reference.logpdf(x), rtol=1e-10)


@pytest.mark.parametrize("dim", [1, 2])
def test_predictive_is_the_average_gaussian_over_the_prior(dim):
    niw = NIW(
        torch.zeros(dim).double(),
        torch.tensor(0.7, dtype=torch.double),
        torch.tensor(dim + 4.3, dtype=torch.double),
        (torch.eye(dim) + 0.4).double(),
    )
    law = stats.invwishart(df=float(niw.nu), scale=niw.scale.numpy())
    draws = np.reshape(law.rvs(size=20_000, random_state=stream(0, "iw", dim)), (-1, dim, dim))
    spread = draws * (1 + 1 / 0.7)  # the mean integrated out given the covariance
    x = np.linspace(0.3, 1.5, dim)
    squared = np.einsum("i,nij,j->n", x, np.linalg.inv(spread), x)
    densities = np.exp(-squared / 2) / np.sqrt(np.linalg.det(2 * np.pi * spread))
    error = densities.std() / np.sqrt(len(densities))
    result = float(predictive(niw).log_prob(torch.tensor(x[None])).exp())
    assert result == pytest.approx(densities.mean(), abs=4 * error)


@pytest.mark.parametrize("power", [1.0, 0.4])
def test_evidence_is_the_integral_of_the_tempered_likelihood(power):
    m0, k0, nu, psi = 0.3, 0.8, 3.5, 1.7
    z = np.array([0.1, 1.2, -0.4])

    grid_mu, grid_log = np.linspace(-25, 25, 1001), np.linspace(-5, 7, 121)
    z_, mu = z[:, None, None], grid_mu[:, None]
    variance = np.exp(grid_log)[None, :]
    deviation = np.sqrt(variance)
    values = (
        np.prod(stats.norm.pdf(z_, mu, deviation), axis=0) ** power
        * stats.norm.pdf(mu, m0, deviation / np.sqrt(k0))
        * stats.invgamma.pdf(variance, nu / 2, scale=psi / 2)
        * variance
    )
    expected = integrate.simpson(integrate.simpson(values, x=grid_mu, axis=0), x=grid_log)
    numbers = torch.tensor([m0, k0, nu, psi], dtype=torch.double)
    prior = NIW(numbers[:1], numbers[1], numbers[2], numbers[3].reshape(1, 1))
    tempered = temper(sufficient_statistics(torch.tensor(z)[:, None]), 3 * power * torch.ones(()))
    assert float(log_evidence(prior, tempered).exp()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_evidence_is_the_product_of_one_step_predictives(make_prior, vectors, dim):
    prior, z = make_prior(dim), vectors(6, dim)
    total, niw = 0.0, prior
    for i in range(6):
        total += float(predictive(niw).log_prob(z[i : i + 1]))
        niw = posterior(niw, sufficient_statistics(z[i : i + 1]))
    assert float(log_evidence(prior, sufficient_statistics(z))) == pytest.approx(total, rel=1e-10)


@QUICK
@given(split=st.integers(0, 7))
def test_two_updates_are_one(make_prior, vectors, split):
    prior, z = make_prior(3), vectors(7, 3)
    first = posterior(prior, sufficient_statistics(z[:split]))
    second = posterior(first, sufficient_statistics(z[split:]))
    _assert_equal(second, posterior(prior, sufficient_statistics(z)))


@QUICK
@given(seed=st.integers(0, 50))
def test_predictive_is_affine_equivariant(make_prior, vectors, seed):
    prior, z, x = make_prior(3, seed), vectors(5, 3, key=seed), vectors(4, 3, key=seed)
    a = vectors(3, 3, key=seed) + 3 * torch.eye(3)
    b = vectors(3, key=seed)
    moved = NIW(a @ prior.mean + b, prior.kappa, prior.nu, a @ prior.scale @ a.mT)
    before = predictive(posterior(prior, sufficient_statistics(z))).log_prob(x)
    stats_after = sufficient_statistics(z @ a.mT + b)
    after = predictive(posterior(moved, stats_after)).log_prob(x @ a.mT + b)
    log_volume = torch.linalg.slogdet(a).logabsdet
    torch.testing.assert_close(after, before - log_volume, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("effective", [None, 2.5])
def test_leave_one_out_is_a_refit_without_the_image(make_prior, vectors, effective):
    prior, images = make_prior(3, batch=(2,)), vectors(2, 5, 4, 3)
    groups = sufficient_statistics(images)
    if effective is not None:
        groups = temper(groups, torch.tensor(effective, dtype=torch.double))
    left_out = leave_one_out(prior, groups)
    assert left_out.scale.shape == (2, 5, 3, 3)
    for g in range(5):
        rest = torch.cat([images[:, :g], images[:, g + 1 :]], 1).flatten(1, 2)
        stats_rest = sufficient_statistics(rest)
        if effective is not None:
            stats_rest = temper(stats_rest, torch.tensor(4 * effective, dtype=torch.double))
        refit = posterior(prior, stats_rest)
        one = (left_out.mean[:, g], left_out.kappa[:, g], left_out.nu[:, g], left_out.scale[:, g])
        _assert_equal(one, refit)


def test_no_observation_leaves_the_prior(make_prior, vectors):
    prior = make_prior(3)
    nothing = sufficient_statistics(vectors(0, 3))
    _assert_equal(posterior(prior, nothing), prior)
    assert float(log_evidence(prior, nothing)) == pytest.approx(0, abs=1e-12)


def test_float32_agrees_with_float64_at_working_size(make_prior, vectors):
    prior, z, x = make_prior(64), vectors(200, 64), vectors(20, 64, key="query")
    exact = predictive(posterior(prior, sufficient_statistics(z))).log_prob(x)
    single = NIW(*(field.float() for field in prior))
    result = predictive(posterior(single, sufficient_statistics(z.float()))).log_prob(x.float())
    torch.testing.assert_close(result.double(), exact, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kappa": torch.tensor([1.0, -1.0])}, "prior: kappa is not positive at batch index 1"),
        ({"nu": torch.tensor([1.0, 9.0])}, "prior: nu is not above d - 1 at batch index 0"),
        ({"mean": torch.full((2, 2), torch.nan)}, "prior: mean is not finite at batch index 0"),
        (
            {"scale": torch.stack([torch.eye(2), -torch.eye(2)])},
            "prior: scale is not positive definite at batch index 1",
        ),
    ],
)
def test_improper_laws_are_refused_by_name(change, message):
    good = NIW(
        torch.zeros(2, 2), torch.ones(2), torch.full((2,), 3.0), torch.eye(2).expand(2, 2, 2)
    )
    check_proper(good)
    with pytest.raises(NumericalError) as error:
        check_proper(good._replace(**change))
    assert str(error.value) == message
