"""The optimisers that a server applies to an aggregated update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from strategies.task import Params

State = dict[str, Tensor]
"""Everything an optimiser remembers, as named tensors, so that a checkpoint can hold it."""


@dataclass(frozen=True)
class ServerOptimizer:
    """A server optimiser whose state is explicit.

    With g_t the aggregated update (a gradient, or the mean of theta - theta_c),

    - sgd:  v_t = mu v_{t-1} + g_t,  theta_t = theta_{t-1} - eta v_t
    - adam: m_t = b1 m_{t-1} + (1 - b1) g_t,  v_t = b2 v_{t-1} + (1 - b2) g_t^2,
      theta_t = theta_{t-1} - eta m_hat / (sqrt(v_hat) + eps),
      m_hat = m_t / (1 - b1^t),  v_hat = v_t / (1 - b2^t)
    - yogi: m_t as in adam,  v_t = v_{t-1} - (1 - b2) g_t^2 sign(v_{t-1} - g_t^2),
      theta_t = theta_{t-1} - eta m_t / (sqrt(v_t) + tau)

    eta is multiplied, tensor by tensor, by the entry of ``scales`` with the longest
    prefix of the tensor's name, and in the last ``decay * rounds`` of ``rounds`` steps by

        min(1, (rounds + 1 - t) / (decay rounds)),

    so that the last parameters are not thrown about by the last episodes.

    References:
        Kingma and Ba, Adam, 2015, Algorithm 1; Reddi et al., Adaptive Federated
        Optimization, 2021, Algorithm 2 (FedYogi; their FedAdam has no m_hat and v_hat, and
        tau = 1e-3 in the place of eps = 1e-8).

    >>> optimizer = ServerOptimizer("sgd", lr=0.5)
    >>> theta = {"w": torch.tensor([1.0])}
    >>> theta, _ = optimizer.step(theta, {"w": torch.tensor([2.0])}, optimizer.initial(theta))
    >>> theta["w"].item()
    0.0
    """

    name: Literal["sgd", "adam", "yogi"]
    lr: float
    momentum: float = 0.0
    scales: Mapping[str, float] = field(default_factory=dict)
    rounds: int = 0
    decay: float = 0.0

    def initial(self, params: Params) -> State:
        """Return the state before the first step."""
        moments = {"sgd": ("v",), "adam": ("m", "v"), "yogi": ("m", "v")}[self.name]
        state = {f"{k}/{name}": torch.zeros_like(p) for k in moments for name, p in params.items()}
        state["t"] = torch.zeros((), dtype=torch.int64)
        return state

    def step(self, params: Params, update: Params, state: State) -> tuple[Params, State]:
        """Return the parameters and the state after one step along ``-update``."""
        rule = {"sgd": self._sgd, "adam": _adam, "yogi": _yogi}[self.name]
        count = int(state["t"]) + 1
        after: State = {"t": torch.tensor(count)}
        lr = self.lr * self.fall(count)
        result: Params = {}
        for name, value in params.items():
            moments = {key[0]: t for key, t in state.items() if key[1:] == f"/{name}"}
            direction, moments = rule(update[name], moments, count)
            result[name] = value - lr * scale_of(self.scales, name) * direction
            after |= {f"{key}/{name}": moment for key, moment in moments.items()}
        return result, after

    def fall(self, count: int) -> float:
        """Return what is left of the rate at step ``count``, the first being 1.

        >>> optimizer = ServerOptimizer("sgd", 1.0, rounds=8, decay=0.5)
        >>> [optimizer.fall(t) for t in (1, 5, 6, 8)]
        [1.0, 1.0, 0.75, 0.25]
        """
        span = self.decay * self.rounds
        return min(1.0, max(0.0, (self.rounds + 1 - count) / span)) if span else 1.0

    def _sgd(self, g: Tensor, moments: State, _count: int) -> tuple[Tensor, State]:
        v = self.momentum * moments["v"] + g
        return v, {"v": v}


def scale_of(scales: Mapping[str, float], name: str) -> float:
    """Return the learning-rate multiplier of the tensor ``name``: that of its longest prefix.

    >>> scale_of({"prior": 2.0, "prior.mean": 3.0}, "prior.scale")
    2.0
    """
    prefixes = [prefix for prefix in scales if name.startswith(prefix)]
    return scales[max(prefixes, key=len)] if prefixes else 1.0


def moved_of(params: Params, scales: Mapping[str, float]) -> Params:
    """Return those of ``params`` that a step moves, sorted by name.

    >>> list(moved_of({"b": torch.ones(1), "a": torch.ones(1)}, {"b": 0.0}))
    ['a']
    """
    return {name: params[name] for name in sorted(params) if scale_of(scales, name)}


def _adam(g: Tensor, moments: State, count: int) -> tuple[Tensor, State]:
    b1, b2, eps = 0.9, 0.999, 1e-8
    m = b1 * moments["m"] + (1 - b1) * g
    v = b2 * moments["v"] + (1 - b2) * g.square()
    m_hat, v_hat = m / (1 - b1**count), v / (1 - b2**count)
    return m_hat / (v_hat.sqrt() + eps), {"m": m, "v": v}


def _yogi(g: Tensor, moments: State, _count: int) -> tuple[Tensor, State]:
    b1, b2, tau = 0.9, 0.99, 1e-3
    m = b1 * moments["m"] + (1 - b1) * g
    v = moments["v"] - (1 - b2) * g.square() * torch.sign(moments["v"] - g.square())
    return m / (v.sqrt() + tau), {"m": m, "v": v}
