from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bayfed.normality import (
    SufficientStatistics,
    merge,
    pool,
    pool_others,
    project,
    sufficient_statistics,
    temper,
)

QUICK = settings(max_examples=25, deadline=None, derandomize=True)


def _assert_equal(left, right, tolerance=1e-10):
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_against_numpy(vectors):
    z = vectors(2, 7, 3)
    stats = sufficient_statistics(z)
    for i in range(2):
        assert stats.count[i] == 7
        np.testing.assert_allclose(stats.mean[i], z[i].numpy().mean(0))
        np.testing.assert_allclose(stats.scatter[i], np.cov(z[i].numpy().T) * 6)


def test_weights_are_repetitions(vectors):
    z = vectors(4, 3)
    weights = torch.tensor([2.0, 1.0, 0.0, 3.0], dtype=torch.double)
    repeated = z[[0, 0, 1, 3, 3, 3]]
    _assert_equal(sufficient_statistics(z, weights), sufficient_statistics(repeated))


def test_float32_survives_a_mean_far_from_zero(vectors):
    z = vectors(200, 2)
    scatter = sufficient_statistics((z + 1000).float()).scatter
    torch.testing.assert_close(
        scatter.double(), sufficient_statistics(z).scatter, rtol=1e-3, atol=0.1
    )


@QUICK
@given(first=st.integers(0, 6), second=st.integers(0, 6))
def test_merging_two_batches_is_one_batch(vectors, first, second):
    z = vectors(first + second, 3)
    merged = merge(sufficient_statistics(z[:first]), sufficient_statistics(z[first:]))
    _assert_equal(merged, sufficient_statistics(z))


@QUICK
@given(seed=st.integers(0, 99))
def test_order_does_not_matter(vectors, seed):
    z = vectors(8, 3, key=seed)
    order = np.random.default_rng(seed).permutation(8)
    _assert_equal(sufficient_statistics(z[order]), sufficient_statistics(z))


def test_pooling_groups_is_flattening_them(vectors):
    z = vectors(2, 5, 4, 3)
    groups = sufficient_statistics(z)
    _assert_equal(pool(groups), sufficient_statistics(z.flatten(1, 2)))


@pytest.mark.parametrize("images", [1, 2, 5])
def test_pooling_the_others_is_leaving_one_group_out(vectors, images):
    z = vectors(2, images, 4, 3)
    others = pool_others(sufficient_statistics(z))
    for g in range(images):
        rest = torch.cat([z[:, :g], z[:, g + 1 :]], 1).flatten(1, 2)
        expected = sufficient_statistics(rest)
        _assert_equal((others.count[:, g], others.mean[:, g], others.scatter[:, g]), expected)


def test_projecting_statistics_is_projecting_vectors(vectors):
    z, head = vectors(2, 7, 4), vectors(4, 3)
    _assert_equal(project(sufficient_statistics(z), head), sufficient_statistics(z @ head))


def test_a_mask_is_a_weight(vectors):
    z = vectors(5, 3)
    mask = torch.tensor([True, False, True, True, False])
    _assert_equal(sufficient_statistics(z, mask), sufficient_statistics(z[mask]))


def test_tempering_to_the_count_changes_nothing(vectors):
    stats = sufficient_statistics(vectors(6, 3))
    _assert_equal(temper(stats, torch.tensor(6.0, dtype=torch.double)), stats)


def test_tempering_images_is_tempering_their_pool(vectors):
    groups = sufficient_statistics(vectors(5, 9, 3))
    each = pool(temper(groups, torch.tensor(1.7, dtype=torch.double)))
    whole = temper(pool(groups), torch.tensor(5 * 1.7, dtype=torch.double))
    _assert_equal(each, whole)


def test_an_empty_sample_is_zero_with_finite_gradients(vectors):
    weights = torch.zeros(3, dtype=torch.double, requires_grad=True)
    z = vectors(3, 2).requires_grad_()
    stats = temper(sufficient_statistics(z, weights), torch.tensor(4.0, dtype=torch.double))
    assert stats.count == 0
    gradients = torch.autograd.grad(sum(field.sum() for field in stats), (z, weights))
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_merge_broadcasts():
    single = SufficientStatistics(torch.ones(()), torch.ones(2), torch.eye(2))
    many = SufficientStatistics(torch.ones(3), torch.ones(3, 2), torch.zeros(3, 2, 2))
    assert merge(single, many).scatter.shape == (3, 2, 2)
