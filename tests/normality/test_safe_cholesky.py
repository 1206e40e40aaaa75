from __future__ import annotations

import pytest
import torch
from torch.func import grad, vmap

from bayfed.errors import NumericalError
from bayfed.normality import check_finite, cholesky_jitter, raise_where, safe_cholesky
from bayfed.normality.linalg import JITTER_STEPS


def _good(vectors, size=4, key=0):
    root = vectors(size, 2 * size, key=key)
    return root @ root.mT


def _loss(matrix):
    return (safe_cholesky(matrix) ** 2 + safe_cholesky(matrix)).sum()


def test_a_good_matrix_gets_the_plain_factor_of_its_symmetric_part(vectors):
    matrix = _good(vectors) + torch.triu(0.1 * vectors(4, 4), 1)
    expected = torch.linalg.cholesky((matrix + matrix.mT) / 2)
    torch.testing.assert_close(safe_cholesky(matrix), expected, rtol=0, atol=1e-14)
    assert cholesky_jitter(matrix) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rank_deficient_matrix_is_mended_by_little(vectors, dtype):
    root = vectors(30, 3).to(dtype)
    matrix = root @ root.mT
    factor = safe_cholesky(matrix)
    largest = JITTER_STEPS[1] * matrix.diagonal().mean()
    assert 0 < cholesky_jitter(matrix) <= largest * 1.001
    torch.testing.assert_close(factor @ factor.mT, matrix, rtol=0, atol=float(2 * largest))


def test_the_smallest_sufficient_step_is_taken():
    matrix = torch.diag(torch.tensor([1.0, 1.0, 1.0, -5e-5], dtype=torch.double))
    level = float(matrix.diagonal().abs().mean())
    assert float(cholesky_jitter(matrix)) == pytest.approx(JITTER_STEPS[2] * level)


def test_the_zero_matrix_is_mended():
    assert bool(safe_cholesky(torch.zeros(3, 3)).isfinite().all())


@pytest.mark.parametrize(
    "bad",
    [torch.ones(4, 4), torch.zeros(4, 4), -torch.eye(4), torch.full((4, 4), torch.nan)],
    ids=["rank one", "zero", "negative", "nan"],
)
def test_one_bad_matrix_leaves_the_others_alone(vectors, bad):
    matrices = torch.stack([_good(vectors, key=1), bad.double(), _good(vectors, key=2)])
    batch = matrices.clone().requires_grad_()
    factor = safe_cholesky(batch)
    for i in (0, 2):
        torch.testing.assert_close(factor[i], torch.linalg.cholesky(matrices[i]))
    (gradient,) = torch.autograd.grad(factor[[0, 2]].sum() + factor.nan_to_num().sum(), batch)
    assert bool(gradient.isfinite().all())
    for i in (0, 2):
        alone = matrices[i].clone().requires_grad_()
        (expected,) = torch.autograd.grad(2 * safe_cholesky(alone).sum(), alone)
        torch.testing.assert_close(gradient[i], expected)


def test_beyond_mending_is_nan_and_has_no_gradient():
    matrix = (-torch.eye(2)).requires_grad_()
    factor = safe_cholesky(matrix)
    assert bool(factor.isnan().all())
    assert bool((torch.autograd.grad(factor.sum(), matrix)[0] == 0).all())


def test_a_mended_matrix_has_finite_second_derivatives(vectors):
    root = vectors(4, 2).requires_grad_()
    loss = _loss(root @ root.mT)
    (first,) = torch.autograd.grad(loss, root, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), root)
    assert bool(first.isfinite().all())
    assert bool(second.isfinite().all())


def test_vmap_over_any_axis_equals_the_loop(vectors):
    matrices = torch.stack([_good(vectors), torch.ones(4, 4).double(), -torch.eye(4).double()])
    expected = torch.stack([safe_cholesky(matrix) for matrix in matrices])
    for axis in (0, 1, 2):
        result = vmap(safe_cholesky, in_dims=axis)(matrices.movedim(0, axis))
        torch.testing.assert_close(result, expected, equal_nan=True)
    nested = vmap(vmap(safe_cholesky))(matrices[None])
    torch.testing.assert_close(nested[0], expected, equal_nan=True)


def test_vmap_of_grad_equals_the_loop(vectors):
    matrices = torch.stack([_good(vectors), torch.ones(4, 4).double()])
    expected = torch.stack([grad(_loss)(matrix) for matrix in matrices])
    torch.testing.assert_close(vmap(grad(_loss))(matrices), expected)


def test_gradients_are_right_to_second_order(vectors):
    matrix = _good(vectors, 3).requires_grad_()
    assert torch.autograd.gradcheck(safe_cholesky, matrix)
    assert torch.autograd.gradgradcheck(safe_cholesky, matrix)


def test_checks_name_the_value_and_the_index():
    value = torch.zeros(2, 3, 4)
    check_finite(value, "embeddings", 1)
    value[1, 2, 0] = torch.inf
    with pytest.raises(NumericalError, match=r"^embeddings is not finite at batch index 1, 2$"):
        check_finite(value, "embeddings", 1)
    with pytest.raises(NumericalError, match=r"^loss is not finite$"):
        check_finite(torch.tensor(torch.nan), "loss")
    with pytest.raises(NumericalError, match=r"^no index 1$"):
        raise_where(torch.tensor(True), "no index 1")
