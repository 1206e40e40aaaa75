"""How steep a loss bends at a point, and whether it jumps between two."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bayfed.seeds import torch_stream
from experiments.study.rules import PRODUCTS
from strategies.local import scaled
from strategies.task import Params, norm

HALVINGS = 35


def largest_curvature(
    loss: Callable[[Params], Tensor], theta: Params, iterations: int = PRODUCTS
) -> float:
    r"""Return the largest absolute eigenvalue of the Hessian, from below.

    .. math:: v \leftarrow H v / \lVert H v \rVert, \quad \lambda = \lVert H v \rVert

    Kinks and jumps of the loss have no part in it. Infinite where a product is no number.

    Args:
        loss: Twice differentiable by autograd.
        theta: Where; all of it is moved.
        iterations: Products.

    >>> bowl = lambda p: (torch.tensor([1.0, -3.0]) * p["w"].square()).sum() / 2
    >>> round(largest_curvature(bowl, {"w": torch.ones(2)}), 4)
    3.0
    """
    leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
    slope = torch.autograd.grad(loss(leaves), list(leaves.values()), create_graph=True)
    generator = torch_stream(0, "curvature")
    v = {n: torch.randn(t.shape, generator=generator, dtype=t.dtype) for n, t in theta.items()}
    size = 0.0
    for _ in range(iterations):
        v = scaled(v, 1 / norm(v))
        product = torch.autograd.grad(
            slope, list(leaves.values()), list(v.values()), retain_graph=True, allow_unused=True
        )
        v = {
            name: torch.zeros_like(leaf) if one is None else one.detach()
            for (name, leaf), one in zip(leaves.items(), product, strict=True)
        }
        size = norm(v)
        if not size or not math.isfinite(size):
            break
    return size if math.isfinite(size) else math.inf


def jump(value: Callable[[Params], float], start: Params, end: Params, parts: int = 200) -> float:
    """Return how far a function jumps on the way between two points, 0 but for rounding if nowhere.

    Of equal parts of the way that is taken where the function bends most, and halved: the half on
    which it changes more is kept, until what changes there is a jump.

    >>> step = lambda p: float(p["w"] > 0.3) + float(p["w"])
    >>> ends = ({"w": torch.tensor(x, dtype=torch.float64)} for x in (0.0, 1.0))
    >>> round(jump(step, *ends), 6)
    1.0
    """

    def at(share: float) -> float:
        return value({name: t + share * (end[name] - t) for name, t in start.items()})

    seen = [at(i / parts) for i in range(parts + 1)]
    bends = [abs(c - 2 * b + a) for a, b, c in zip(seen, seen[1:], seen[2:], strict=False)]
    most = bends.index(max(bends))
    low, high = (most / parts, seen[most]), ((most + 2) / parts, seen[most + 2])
    for _ in range(HALVINGS):
        share = (low[0] + high[0]) / 2
        middle = share, at(share)
        first = abs(middle[1] - low[1]) > abs(high[1] - middle[1])
        low, high = (low, middle) if first else (middle, high)
    return abs(high[1] - low[1])
