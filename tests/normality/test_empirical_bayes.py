from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
import torch
from scipy import stats

from bayfed.errors import NumericalError, ProtocolError
from bayfed.normality import (
    EvidenceSums,
    evidence_sums,
    fit_prior,
    sufficient_statistics,
)
from bayfed.normality.empirical_bayes import KAPPA_RANGE, SINGLE_SITE_KAPPA
from bayfed.seeds import stream

MEAN, KAPPA, NU = np.array([1.0, -2.0, 0.5]), 0.5, 9.0
SCALE = 4 * np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 0.5]])


def _sites(number, images, key=0):
    rng = stream(0, "sites", key)
    sigmas = stats.invwishart(df=NU, scale=SCALE).rvs(size=number, random_state=rng)
    draws = []
    for sigma in np.reshape(sigmas, (number, 3, 3)):
        mean = rng.multivariate_normal(MEAN, sigma / KAPPA)
        draws.append(rng.multivariate_normal(mean, sigma, size=images))
    return torch.tensor(np.array(draws))


def _sums(z):
    return reduce(EvidenceSums.add, [evidence_sums(sufficient_statistics(site)) for site in z])


def test_sums_of_sites_equal_the_central_computation():
    z = _sites(5, 8)
    sums = _sums(z)
    means = z.mean(1)
    assert (float(sums.sites), float(sums.count)) == (5, 40)
    torch.testing.assert_close(sums.mean, means.sum(0))
    torch.testing.assert_close(sums.mean_outer, means.mT @ means)
    within = sum(torch.cov(site.mT) * 7 for site in z)
    torch.testing.assert_close(sums.within, within)


def test_adding_is_associative():
    a, b, c = (evidence_sums(sufficient_statistics(site)) for site in _sites(3, 6))
    for left, right in zip(a.add(b).add(c), a.add(b.add(c)), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_fit_by_the_formula_in_numpy():
    z = _sites(6, 10).numpy()
    prior = fit_prior(_sums(torch.tensor(z)), extra_dof=3, strength=5, shrinkage=0.2)
    means = z.mean(1)
    pooled = sum(np.cov(site.T) * 9 for site in z) / (60 - 6)
    shrunk = 0.8 * pooled + 0.2 * np.trace(pooled) / 3 * np.eye(3)
    spread = np.trace(np.cov(means.T)) / np.trace(shrunk) - 1 / 10
    np.testing.assert_allclose(prior.mean, means.mean(0))
    np.testing.assert_allclose(prior.kappa, 1 / spread)
    np.testing.assert_allclose(prior.scale, 5 * shrunk)
    assert float(prior.nu) == 3 - 1 + 3


def test_kappa_is_recovered_also_with_few_images_a_site():
    kappas = [
        float(fit_prior(_sums(_sites(60, 4, key)), 4, 4, shrinkage=0).kappa) for key in range(8)
    ]
    assert np.mean(kappas) == pytest.approx(KAPPA, rel=0.2)


def test_kappa_is_clipped_and_has_a_default_for_one_site():
    z = _sites(4, 6)
    centred = z - z.mean(1, keepdim=True)
    apart = centred + 1e4 * torch.arange(4.0)[:, None, None]
    assert float(fit_prior(_sums(centred), 4, 4).kappa) == pytest.approx(KAPPA_RANGE[1])
    assert float(fit_prior(_sums(apart), 4, 4).kappa) == pytest.approx(KAPPA_RANGE[0])
    assert float(fit_prior(_sums(z[:1]), 4, 4).kappa) == SINGLE_SITE_KAPPA


def test_fit_keeps_the_type_and_survives_fewer_embeddings_than_dimensions(vectors):
    sums = evidence_sums(sufficient_statistics(vectors(3, 8).float()))
    prior = fit_prior(sums, 2, 2)
    assert prior.scale.dtype == torch.float32
    assert float(torch.linalg.eigvalsh(prior.scale).min()) > 0


def test_too_little_or_bad_input_is_refused(vectors):
    one = evidence_sums(sufficient_statistics(vectors(1, 2)))
    with pytest.raises(ProtocolError, match="more embeddings than sites"):
        fit_prior(one, 2, 2)
    with pytest.raises(NumericalError, match="within is not finite"):
        fit_prior(one._replace(within=torch.full((2, 2), torch.nan)), 2, 2)


def test_shares_of_a_site_are_one_site() -> None:
    sites = _sites(5, 12)
    whole = reduce(EvidenceSums.add, [evidence_sums(sufficient_statistics(z)) for z in sites])
    parts = [
        evidence_sums(sufficient_statistics(part), len(part) / len(z))
        for z in sites
        for part in (z[:8], z[8:])
    ]
    shared = reduce(EvidenceSums.add, parts)
    torch.testing.assert_close(shared.sites, whole.sites)
    torch.testing.assert_close(shared.mean, whole.mean)
    one, other = (fit_prior(sums, extra_dof=3, strength=3) for sums in (whole, shared))
    torch.testing.assert_close(other.mean, one.mean)
    torch.testing.assert_close(other.kappa, one.kappa, rtol=0.3, atol=0)
