from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bayfed.normality import StudentT, predictive
from bayfed.seeds import stream

QUICK = settings(max_examples=25, deadline=None, derandomize=True)


@pytest.mark.parametrize("dim", [1, 2, 7, 64])
@pytest.mark.parametrize("dof", [0.5, 3.0, 17.3, 4000.0])
def test_log_density_equals_scipy(make_prior, vectors, dim, dof):
    prior = make_prior(dim)
    t = StudentT(
        prior.mean, torch.linalg.cholesky(prior.scale), torch.tensor(dof, dtype=torch.double)
    )
    x = 3 * vectors(9, dim)
    reference = stats.multivariate_t(prior.mean.numpy(), prior.scale.numpy(), df=dof)
    np.testing.assert_allclose(t.log_prob(x), reference.logpdf(x.numpy()), rtol=1e-10)


def test_squared_distance_equals_the_quadratic_form(make_prior, vectors):
    prior, x = make_prior(4), vectors(5, 4)
    y = x - prior.mean
    t = StudentT(prior.mean, torch.linalg.cholesky(prior.scale), torch.tensor(3.0))
    expected = torch.einsum("mi,ij,mj->m", y, torch.linalg.inv(prior.scale), y)
    torch.testing.assert_close(t.mahalanobis(x), expected)


@pytest.mark.parametrize("dof", [1e5, 1e9, 1e15, 1e30])
def test_float32_reaches_the_gaussian_limit(vectors, dof):
    dim = 64
    x = vectors(6, dim)
    t = StudentT(torch.zeros(dim), torch.eye(dim), torch.tensor(dof))
    gaussian = stats.multivariate_normal(np.zeros(dim)).logpdf(x.numpy())
    np.testing.assert_allclose(t.log_prob(x.float()), gaussian, atol=0.02 if dof < 1e6 else 1e-3)


def test_batches_broadcast_against_points(make_prior, vectors):
    prior = make_prior(3, batch=(2, 4))
    t = predictive(prior)
    x = vectors(4, 5, 3)
    log_prob = t.log_prob(x)
    assert log_prob.shape == (2, 4, 5)
    one = StudentT(t.location[1, 2], t.scale_cholesky[1, 2], t.dof[1, 2])
    torch.testing.assert_close(log_prob[1, 2], one.log_prob(x[2]))


@QUICK
@given(dim=st.integers(1, 6), dof=st.floats(0.5, 1e7), squared=st.floats(0, 1e4))
def test_p_value_is_the_survival_of_the_f_law(dim, dof, squared):
    t = StudentT(
        torch.zeros(dim).double(), torch.eye(dim).double(), torch.tensor(dof, dtype=torch.double)
    )
    point = torch.zeros(1, dim, dtype=torch.double)
    point[0, 0] = squared**0.5
    expected = stats.f.sf(squared / dim, dim, dof)
    assert t.p_value(point).item() == pytest.approx(expected, rel=1e-6, abs=1e-300)


def test_p_value_reaches_the_chi_squared_limit():
    t = StudentT(torch.zeros(5).double(), torch.eye(5).double(), torch.tensor(1e12).double())
    point = torch.full((1, 5), 1.5, dtype=torch.double)
    assert t.p_value(point).item() == pytest.approx(stats.chi2.sf(5 * 1.5**2, 5), rel=1e-4)


def test_p_values_of_the_law_itself_are_uniform(make_prior):
    prior = make_prior(5)
    t = StudentT(
        prior.mean, torch.linalg.cholesky(prior.scale), torch.tensor(3.7, dtype=torch.double)
    )
    law = stats.multivariate_t(prior.mean.numpy(), prior.scale.numpy(), df=3.7)
    draws = law.rvs(size=4000, random_state=stream(0, "f-law"))
    p = t.p_value(torch.tensor(draws)).numpy()
    assert stats.kstest(p, "uniform").pvalue > 0.01
