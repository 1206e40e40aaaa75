from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from bayfed.metrics import (
    bures_squared,
    gaussian_dissimilarity,
    gradient_diversity,
    wasserstein_distances,
)
from bayfed.seeds import stream

QUICK = settings(max_examples=25, deadline=None, derandomize=True)


def gaussians(count: int, dim: int, rank: int, key: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Means and covariances of so many dimensions, singular where the rank is below."""
    random = stream(key, "gaussians", count, dim, rank)
    factors = random.standard_normal((count, dim, rank))
    means = random.standard_normal((count, dim))
    return torch.from_numpy(means), torch.from_numpy(factors @ factors.transpose(0, 2, 1))


def by_scipy(m: np.ndarray, n: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """W2 with roots of matrices that need no symmetry: (A B)^(1/2) has the same trace."""
    cross = np.real(np.trace(sqrtm(a @ b)))
    return float(np.sqrt(((m - n) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * cross))


@QUICK
@given(dim=st.integers(1, 6), key=st.integers(0, 50))
def test_distances_are_those_of_another_formula(dim, key):
    means, covariances = gaussians(3, dim, dim + 2, key)
    found = wasserstein_distances(means, covariances)
    for i in range(3):
        for j in range(i):
            pair = (means[i], means[j], covariances[i], covariances[j])
            wanted = by_scipy(*(tensor.numpy() for tensor in pair))
            assert float(found[i, j]) == pytest.approx(wanted, rel=1e-6)


def test_covariances_with_common_axes_differ_by_their_roots():
    axes = torch.linalg.qr(torch.from_numpy(stream(0, "axes").standard_normal((4, 4))))[0]
    one, other = torch.tensor([4.0, 1.0, 0.0, 9.0]), torch.tensor([1.0, 1.0, 4.0, 0.0])
    a, b = (axes @ torch.diag(values.double()) @ axes.mT for values in (one, other))
    wanted = (one.sqrt() - other.sqrt()).square().sum()
    assert float(bures_squared(a, b)) == pytest.approx(float(wanted))


@QUICK
@given(rank=st.integers(1, 6), key=st.integers(0, 50))
def test_it_is_a_metric_also_where_covariances_are_singular(rank, key):
    found = wasserstein_distances(*gaussians(4, 5, rank, key))
    assert torch.equal(found, found.mT)
    assert not found.diagonal().any()
    assert bool((found[:, None] + found[None] >= found[..., None] - 1e-9).all())


def test_a_gaussian_is_no_distance_from_itself():
    means, covariances = gaussians(1, 30, 40, 0)
    twice = wasserstein_distances(means.expand(2, -1), covariances.expand(2, -1, -1))
    scale = float(covariances.diagonal(dim1=-2, dim2=-1).sum()) ** 0.5
    assert float(twice.max()) < 1e-6 * scale


@QUICK
@given(rank=st.integers(1, 6), key=st.integers(0, 50), scale=st.sampled_from([0.01, 1.0, 100.0]))
def test_the_share_has_no_unit_and_the_distance_that_of_the_features(rank, key, scale):
    means, covariances = gaussians(4, 5, rank, key)
    random = torch.from_numpy(stream(key, "turn").standard_normal((5, 5)))
    turn = torch.linalg.qr(random)[0]
    one = gaussian_dissimilarity(means, covariances)
    other = gaussian_dissimilarity(
        scale * (means @ turn + 3.0), scale**2 * turn.mT @ covariances @ turn
    )
    assert 0 < one.share < 1
    assert other.share == pytest.approx(one.share, rel=1e-6)
    assert other.distance == pytest.approx(scale * one.distance, rel=1e-6)


def test_the_share_is_the_variance_between_where_all_are_equally_wide():
    means, covariances = gaussians(5, 3, 4, 1)
    weights = np.array([0.1, 0.2, 0.3, 0.3, 0.1])
    same = covariances[:1].expand(5, -1, -1)
    m, within = means.numpy(), float(torch.trace(same[0]))
    between = (weights[:, None] * (m - weights @ m) ** 2).sum()
    found = gaussian_dissimilarity(means, same, torch.from_numpy(7 * weights))
    assert found.share == pytest.approx(between / (between + within))
    pairs = [(i, j) for i in range(5) for j in range(i)]
    apart = sum(weights[i] * weights[j] * np.linalg.norm(m[i] - m[j]) for i, j in pairs)
    wanted = apart / sum(weights[i] * weights[j] for i, j in pairs)
    assert found.distance == pytest.approx(wanted)


def test_one_factory_or_equal_points_are_not_apart():
    means, covariances = gaussians(1, 3, 4, 0)
    assert gaussian_dissimilarity(means, covariances) == (0, 0)
    assert gaussian_dissimilarity(torch.ones(3, 2), torch.zeros(3, 2, 2)) == (0, 0)


@QUICK
@given(clients=st.integers(1, 6), size=st.integers(1, 9), key=st.integers(0, 50))
def test_gradients_are_as_diverse_as_both_definitions_say(clients, size, key):
    random = stream(key, "gradients", clients, size)
    g, w = random.standard_normal((clients, size)), random.uniform(0.1, 1, clients)
    share = w / w.sum()
    mean = sum(share[c] * g[c] for c in range(clients))
    wanted = sum(share[c] * (g[c] ** 2).sum() for c in range(clients)) / (mean**2).sum() - 1
    found = gradient_diversity(torch.from_numpy(g), torch.from_numpy(w))
    assert found == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    yin = (g**2).sum() / (g.sum(0) ** 2).sum()
    assert gradient_diversity(torch.from_numpy(g)) == pytest.approx(
        clients * yin - 1, rel=1e-6, abs=1e-9
    )


def test_gradients_that_agree_or_cancel():
    one = torch.tensor([[1.0, 2.0]])
    assert gradient_diversity(one.expand(3, -1)) == 0
    assert gradient_diversity(torch.cat([one, -one])) == float("inf")
    assert gradient_diversity(torch.zeros(2, 3)) == 0
