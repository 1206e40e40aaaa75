"""Local steps: what the client halves have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsFloat

import torch
from torch import Tensor

from strategies.server_optimizers import moved_of
from strategies.task import LocalTask, Params

Report = dict[str, float]
Loss = Callable[[Params, Any], tuple[Tensor, Mapping[str, SupportsFloat]]]
"""From meta-parameters and a batch to the mean loss and metrics."""
Gradient = Callable[[Params, int], tuple[Params, Report]]
"""From where a client stands and the number of the step to a direction and metrics."""


def gradient_of(
    loss: Loss, theta: Params, rates: Mapping[str, float], batch: Any, graph: bool = False
) -> tuple[Params, Report]:
    """Return the gradient of the loss of ``batch``, 0 for what is not moved, and its metrics.

    Args:
        loss: Of the client.
        theta: Where it is taken.
        rates: Learning-rate multipliers of the server by prefix.
        batch: Of episodes.
        graph: Whether the gradient can be differentiated again.
    """
    leaves = {n: value.detach().requires_grad_() for n, value in moved_of(theta, rates).items()}
    value, metrics = loss(theta | leaves, batch)
    found = torch.autograd.grad(value, list(leaves.values()), create_graph=graph, allow_unused=True)
    named = {name: g for name, g in zip(leaves, found, strict=True) if g is not None}
    report = {name: float(metric) for name, metric in metrics.items()}
    return zeros(theta) | named, {**report, "loss": float(value.detach())}


def sampled(task: LocalTask, rates: Mapping[str, float], number: int) -> Gradient:
    """Return the gradient of a client on the batches of round ``number``."""
    return lambda at, step: gradient_of(task.loss, at, rates, task.batch(number, step))


def pulled(gradient: Gradient, anchor: Params, strength: float) -> Gradient:
    r"""Return the gradient with that of a proximal term beside it.

    .. math:: g(w, k) + \mu (w - \theta)

    Args:
        gradient: g.
        anchor: :math:`\theta`.
        strength: :math:`\mu`.
    """

    def of(at: Params, step: int) -> tuple[Params, Report]:
        found, report = gradient(at, step)
        return plus(found, minus(at, anchor), strength), report

    return of


def descend(theta: Params, steps: int, rate: float, gradient: Gradient) -> tuple[Params, Report]:
    r"""Return where local steps lead, and the mean of their metrics.

    .. math:: \theta_c \leftarrow \theta_c - \eta_l\, g(\theta_c, k), \quad k = 0 \ldots K - 1

    Args:
        theta: Where they start.
        steps: K.
        rate: :math:`\eta_l`.
        gradient: g.

    >>> descend({"w": torch.tensor(8.0)}, 2, 0.5, lambda at, _: (at, {"loss": 1.0}))
    ({'w': tensor(2.)}, {'loss': 1.0})
    """
    current, reports = theta, []
    for step in range(steps):
        direction, report = gradient(current, step)
        current = {name: value - rate * direction[name] for name, value in current.items()}
        reports.append(report)
    return current, mean_of(reports)


def mean_of(reports: Sequence[Mapping[str, float]]) -> Report:
    """Return the mean of each metric.

    >>> mean_of([{"loss": 1.0}, {"loss": 2.0}])
    {'loss': 1.5}
    """
    return {key: sum(report[key] for report in reports) / len(reports) for key in reports[0]}


def minus(a: Params, b: Params) -> Params:
    """Return a - b.

    >>> minus({"w": torch.tensor(3.0)}, {"w": torch.tensor(1.0)})
    {'w': tensor(2.)}
    """
    return {name: value - b[name] for name, value in a.items()}


def plus(a: Params, b: Params, factor: float = 1.0) -> Params:
    """Return a + factor b.

    >>> plus({"w": torch.tensor(3.0)}, {"w": torch.tensor(1.0)}, 2)
    {'w': tensor(5.)}
    """
    return {name: value + factor * b[name] for name, value in a.items()}


def scaled(a: Params, factor: float) -> Params:
    """Return factor a.

    >>> scaled({"w": torch.tensor(3.0)}, 2)
    {'w': tensor(6.)}
    """
    return {name: factor * value for name, value in a.items()}


def zeros(like: Params) -> Params:
    """Return zeros with the names, shapes and types of ``like``."""
    return {name: torch.zeros_like(value) for name, value in like.items()}
