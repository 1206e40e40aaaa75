"""How uncertain a squared distance is, against draws from the posterior."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bayfed.normality import NIW, distance_moments, pack, predictive, unpack
from bayfed.seeds import stream


def test_mean_and_variance_are_those_of_draws_from_the_posterior():
    random, dim, kappa, nu, draws = stream(0, "epistemic"), 3, 4.0, 12.0, 200_000
    mix = random.standard_normal((dim, dim))
    psi, mean, z = mix @ mix.T + np.eye(dim), random.standard_normal(dim), np.full(dim, 1.5)
    precision = stats.wishart(nu, np.linalg.inv(psi)).rvs(draws, random_state=random)
    noise = random.standard_normal((draws, dim, 1))
    factor = np.linalg.cholesky(precision)
    centre = mean + np.linalg.solve(factor.transpose(0, 2, 1), noise)[..., 0] / np.sqrt(kappa)
    distance = np.einsum("ni,nij,nj->n", z - centre, precision, z - centre)

    niw = NIW(*(torch.as_tensor(x, dtype=torch.double) for x in (mean, kappa, nu, psi)))
    under_predictive = predictive(niw).mahalanobis(torch.from_numpy(z)[None])
    expected, variance = distance_moments(under_predictive, niw.kappa, niw.nu, dim)
    np.testing.assert_allclose(expected.item(), distance.mean(), rtol=0.01)
    np.testing.assert_allclose(variance.item(), distance.var(), rtol=0.03)


@given(st.integers(1, 6), st.integers(0, 10))
def test_a_packed_matrix_is_the_same_again(dim, key):
    half = torch.randn(2, dim, dim, generator=torch.Generator().manual_seed(key))
    matrix = half + half.mT
    assert torch.equal(unpack(pack(matrix)), matrix)
    assert pack(matrix).shape == (2, dim * (dim + 1) // 2)
