r"""The weighted mean of updates from what can be added under masks."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from bayfed.errors import FederationError
from strategies.secure.payload import Summand
from strategies.task import Params, clipped
from strategies.wire import WEIGHT


def summand(
    update: Params, episodes: int, metrics: Mapping[str, float], clip: float, most: int
) -> Summand:
    r"""Return what a client adds to the mean: :math:`a_c \, \mathrm{clip}_C(g_c)` and its numbers.

    Args:
        update: :math:`g_c`.
        episodes: :math:`n_c`, its weight; :math:`a_c = n_c / n_{max}`.
        metrics: Means over the episodes, which are added as :math:`n_c m_c`.
        clip: C, the largest norm of an update.
        most: :math:`n_{max}`, the largest weight.

    Raises:
        FederationError: the weight is none, or the update is not finite.
    """
    if not 0 < episodes <= most:
        raise FederationError(f"{WEIGHT} is {episodes}, between 1 and {most} is expected")
    if not all(bool(torch.isfinite(value).all()) for value in update.values()):
        raise FederationError("the update holds NaN or Inf")
    share = episodes / most
    grid = {name: value.double() * share for name, value in clipped(update, clip).items()}
    exact = {
        name: torch.tensor(episodes * value, dtype=torch.float64) for name, value in metrics.items()
    }
    return Summand(grid, exact | {WEIGHT: torch.tensor(episodes)})


def mean(total: Summand, most: int) -> tuple[Params, dict[str, float]]:
    r"""Return :math:`\sum_c a_c g_c / \sum_c a_c`, and the same mean of the metrics.

    With m summands and steps of the grid h each number is off by less than :math:`m h / \sum_c a_c`
    from the mean of the clipped updates; h where the weights are equal and the largest.

    Args:
        total: The sum of what the clients added.
        most: :math:`n_{max}`.

    Returns:
        Tensors of float32, and the means of the metrics.

    Raises:
        FederationError: the sum has no weight.
    """
    weight = int(total.exact.get(WEIGHT, torch.tensor(0)))
    if weight <= 0 or any(value.numel() != 1 for value in total.exact.values()):
        raise FederationError("the secure sum of the updates has no weight")
    tensors = {name: (value * (most / weight)).float() for name, value in total.grid.items()}
    means = {name: float(value) / weight for name, value in total.exact.items() if name != WEIGHT}
    return tensors, means
