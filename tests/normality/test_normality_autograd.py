from __future__ import annotations

import pytest
import torch
from torch.func import grad, hessian, jacrev, jvp, vmap

from bayfed.normality import (
    NIW,
    leave_one_out,
    log_evidence,
    posterior,
    predictive,
    sufficient_statistics,
    temper,
)


def _niw(mean, log_kappa, log_dof, root):
    dim = mean.shape[-1]
    scale = root @ root.mT + 0.3 * torch.eye(dim, dtype=mean.dtype)
    return NIW(mean, log_kappa.exp(), dim - 1 + log_dof.exp(), scale)


def _log_prob(mean, log_kappa, log_dof, root, effective, z, x):
    stats = temper(sufficient_statistics(z), effective)
    return predictive(posterior(_niw(mean, log_kappa, log_dof, root), stats)).log_prob(x)


def _evidence(mean, log_kappa, log_dof, root, effective, z, _):
    stats = temper(sufficient_statistics(z), effective)
    return log_evidence(_niw(mean, log_kappa, log_dof, root), stats)


def _loo(mean, log_kappa, log_dof, root, effective, z, _):
    groups = temper(sufficient_statistics(z[:, None, :]), effective / z.shape[-2])
    law = predictive(leave_one_out(_niw(mean, log_kappa, log_dof, root), groups))
    return law.log_prob(z[:, None, :])[:, 0]


@pytest.fixture
def inputs(vectors):
    scalars = torch.tensor([-0.3, 0.8, 2.2], dtype=torch.double)
    log_kappa, log_dof, effective = (value.clone() for value in scalars)
    tensors = (
        vectors(2),
        log_kappa,
        log_dof,
        vectors(2, 2),
        effective,
        vectors(3, 2),
        vectors(2, 2),
    )
    return tuple(value.clone().requires_grad_() for value in tensors)


@pytest.mark.parametrize("function", [_log_prob, _evidence, _loo])
def test_first_and_second_derivatives_are_right(function, inputs):
    used = inputs if function is _log_prob else (*inputs[:-1], inputs[-1].detach())
    assert torch.autograd.gradcheck(function, used, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, used, fast_mode=True)


def _batch(vectors, size=4):
    scalars = 0.3 * vectors(size, 3)
    return (
        vectors(size, 2),
        scalars[:, 0],
        scalars[:, 1],
        vectors(size, 2, 2),
        scalars[:, 2].exp(),
        vectors(size, 5, 2),
        vectors(size, 6, 2, key="query"),
    )


@pytest.mark.parametrize("function", [_log_prob, _evidence, _loo])
def test_vmap_is_the_loop(function, vectors):
    batch = _batch(vectors)
    expected = torch.stack([function(*item) for item in zip(*batch, strict=True)])
    torch.testing.assert_close(vmap(function)(*batch), expected)


@pytest.mark.parametrize("transform", [grad, hessian, jacrev])
def test_vmap_of_derivatives_is_the_loop(transform, vectors):
    batch = _batch(vectors)

    def total(*arguments):
        return _log_prob(*arguments).sum() + _evidence(*arguments) + _loo(*arguments).sum()

    derivative = transform(total, argnums=5)
    expected = torch.stack([derivative(*item) for item in zip(*batch, strict=True)])
    torch.testing.assert_close(vmap(derivative)(*batch), expected)


def test_a_leading_batch_is_vmap(vectors):
    mean, log_kappa, log_dof, root, effective, z, x = _batch(vectors)
    batched = _log_prob(mean, log_kappa, log_dof, root, effective, z, x)
    torch.testing.assert_close(batched, vmap(_log_prob)(*_batch(vectors)))


def test_forward_mode_agrees_with_reverse_mode(vectors):
    batch = [value[0] for value in _batch(vectors)]
    direction = vectors(5, 2, key="direction")

    def loss(z):
        return _log_prob(*batch[:5], z, batch[6]).sum()

    _, slope = jvp(loss, (batch[5],), (direction,))
    torch.testing.assert_close(slope, (grad(loss)(batch[5]) * direction).sum())


def test_gradient_through_a_gradient_step_is_exact(vectors):
    """Adapt by one step, refit, differentiate by the start: against finite differences."""
    batch = [value[0] for value in _batch(vectors)]

    def loss(w, z, x):
        return -_log_prob(*batch[:5], z @ w, x @ w).mean()

    def outer(w):
        return loss(w - 0.1 * grad(loss)(w, batch[5], batch[5]), batch[5], batch[6])

    w = torch.eye(2, dtype=torch.double) + 0.1 * vectors(2, 2, key="head")
    assert torch.autograd.gradcheck(outer, w.requires_grad_())
