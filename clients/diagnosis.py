"""A client's part in the exact value and gradient of the meta-objective."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, Protocol

import torch
from torch import Tensor

from bayfed.config.training import Federation
from strategies.local import gradient_of, mean_of, plus, zeros
from strategies.server_optimizers import moved_of
from strategies.task import LocalTask, Params

FROZEN = 0
"""The round whose episodes no training sees."""


class Adapting(LocalTask, Protocol):
    """A learning problem whose loss is that after an inner loop."""

    def inner_gain(self, params: Params, batch: Any) -> float:
        """Return by how much the inner loop lowers the loss."""


def diagnose(
    task: Adapting, theta: Params, rates: Mapping[str, float], settings: Federation
) -> dict[str, Tensor]:
    r"""Return what is added over clients to diagnose the meta-objective at :math:`\theta`.

    .. math:: F_c(\theta) = \frac{1}{n} \sum_{i=1}^{n} f_c(\theta; \xi_i), \quad
              \nabla F_c(\theta), \quad \lVert \nabla F_c(\theta) \rVert^2, \quad
              \frac{1}{n} \sum_i \bigl( f_c^{(0)}(\theta; \xi_i) - f_c(\theta; \xi_i) \bigr)

    :math:`\xi_i` are n batches of episodes, the same in every round, of which no training step is
    made; :math:`f_c^{(0)}` is the loss without the inner loop.

    Args:
        task: Of the client.
        theta: The shared meta-parameters.
        rates: Multipliers of the server; parameters of rate 0 have no part in the gradient.
        settings: How many episodes.
    """
    number = ceil(settings.diagnostics.episodes / settings.episodes)
    total, reports, gain = zeros(theta), [], 0.0
    for step in range(number):
        batch = task.batch(FROZEN, step)
        gradient, report = gradient_of(task.loss, theta, rates, batch)
        total = plus(total, {name: g.double() for name, g in gradient.items()}, 1 / number)
        reports.append(report)
        gain += task.inner_gain(theta, batch) / number
    moved = moved_of(total, rates)
    square = torch.stack([g.double().square().sum() for g in moved.values()]).sum()
    numbers = {"objective": mean_of(reports)["loss"], "inner_gain": gain}
    scalars = {name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()}
    return {f"gradient/{name}": g for name, g in moved.items()} | {"square": square} | scalars
