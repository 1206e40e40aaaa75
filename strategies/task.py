"""What a federated algorithm asks of a client's learning problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, SupportsFloat

import torch
from torch import Tensor

Params = dict[str, Tensor]
"""Meta-parameters: float32 tensors under flat dotted names."""


class LocalTask(Protocol):
    """The learning problem of one client, a loss that can be sampled.

    F_c(theta) = E_xi[f_c(theta; xi)]

    F_c is the client's objective, theta the meta-parameters and xi a batch of episodes.
    """

    def batch(self, round: int, step: int) -> Any:  # noqa: A002
        """Return the episodes of one local step, a function of (seed, round, client, step)."""

    def loss(self, params: Params, batch: Any) -> tuple[Tensor, Mapping[str, SupportsFloat]]:
        """Return the mean loss over the episodes of ``batch`` and metrics to report."""


def norm(tensors: Params) -> float:
    """Return the Euclidean norm over all tensors together.

    >>> norm({"a": torch.tensor([3.0]), "b": torch.tensor([4.0])})
    5.0
    """
    return float(torch.stack([t.double().square().sum() for t in tensors.values()]).sum().sqrt())


def clipped(update: Params, limit: float | None) -> Params:
    """Return ``update`` scaled by min(1, C / ||update||).

    >>> clipped({"w": torch.tensor([3.0, 4.0])}, 1.0)
    {'w': tensor([0.6000, 0.8000])}
    """
    if limit is None or (length := norm(update)) <= limit:
        return update
    return {name: value * (limit / length) for name, value in update.items()}
