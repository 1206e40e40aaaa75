"""The inner loop: a few gradient steps of fast weights, through which the outer loss can see."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad

from bayfed.config import Steps
from bayfed.features import Params

SMALLEST_RATE = 1e-12
"""Stands for 0, whose logarithm is no parameter."""


def initial_rate(settings: Steps) -> Params:
    """Return the inner rate as a meta-parameter; {} where there is no step.

    >>> initial_rate(Steps(lr=1.0))
    {'inner.log_lr': tensor(0.)}
    """
    if not settings.steps:
        return {}
    return {"inner.log_lr": torch.tensor(max(settings.lr, SMALLEST_RATE)).log()}


def inner_loop(
    objective: Callable[[Params], Tensor], start: Params, rate: Tensor, steps: int, exact: bool
) -> Params:
    r"""Return the fast weights after ``steps`` gradient steps from ``start``.

    .. math:: \phi_{s+1} = \phi_s - \alpha \nabla_\phi F(\phi_s)

    A batch of episodes is adapted at once if :math:`F` is the sum of their objectives and each
    weight has a leading episode dimension: no episode's weights enter another's objective.

    Args:
        objective: :math:`F`, a scalar.
        start: :math:`\phi_0`, by name.
        rate: :math:`\alpha`, ``()``; may be a meta-parameter.
        steps: Their number.
        exact: Differentiate through the steps; else their gradients are constants (first order).
            Where autograd is off, nothing is differentiated and this has no effect.

    Source: Finn et al. 2017, equation 1.

    >>> fast = inner_loop(lambda w: w["w"].square().sum(), {"w": torch.ones(1)},
    ...                   torch.tensor(0.25), 2, exact=True)
    >>> fast["w"].tolist()
    [0.25]
    """
    through = exact and torch.is_grad_enabled()
    fast = start
    for _ in range(steps):
        slope = _slope(objective, fast, through)
        fast = {name: weight - rate * slope[name] for name, weight in fast.items()}
    return fast


def _slope(objective: Callable[[Params], Tensor], at: Params, through: bool) -> Params:
    """Return the gradient of ``objective``, which can itself be differentiated or is constant."""
    try:
        leaves = {k: v if v.requires_grad else v.detach().requires_grad_() for k, v in at.items()}
    except RuntimeError:
        # Under a vmap over clients no tensor is a leaf. What works there works everywhere, but
        # loads torch's compiler, for which a process that fits a product would wait seconds.
        with torch.set_grad_enabled(through):
            found: Params = grad(objective)(at)
        return found
    with torch.enable_grad():
        value = objective(leaves)
    gradients = torch.autograd.grad(value, tuple(leaves.values()), create_graph=through)
    return dict(zip(leaves, gradients, strict=True))
