"""Real factories with finitely many episodes, so that F and its gradient are exact sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from bayfed.config import Experiment
from bayfed.episodes.episode import EpisodeBatch
from bayfed.methods import TrainableMethod
from bayfed.seeds import stream
from clients.factory import Factory, initial_parameters
from clients.partition import client_specs
from experiments.study.loop import Asks
from strategies.algorithm import Algorithm, Reply, Sent
from strategies.averaging import Averaging
from strategies.local import gradient_of, minus, plus, scaled, zeros
from strategies.perfedavg import PerFedAvg
from strategies.task import Params, norm
from strategies.together import stacked

FROZEN = 0
"""The round whose episodes stand for a factory."""


@dataclass(frozen=True)
class Stack:
    """Clients beside each other: parameters and episodes have a leading dimension of clients.

    The loss is the sum over clients, so that a gradient holds each client's own.

    Attributes:
        method: Whose loss it is.
        episodes: ``(clients, episodes, ...)`` tensors by field.
        names: Of the clients.
        draw: Episodes of a batch; None = all, and the loss is exact.
        noise: Seed of the draws.
    """

    method: TrainableMethod
    episodes: Params
    names: tuple[str, ...]
    draw: int | None = None
    noise: int = 0

    def of(self, names: Sequence[str]) -> Stack:
        """Return some of the clients."""
        rows = [self.names.index(name) for name in names]
        part = {name: value[rows] for name, value in self.episodes.items()}
        return replace(self, episodes=part, names=tuple(names))

    def batch(self, round: int, step: int) -> Params:  # noqa: A002
        """Return the episodes of one local step of all clients, drawn with replacement."""
        if self.draw is None:
            return self.episodes
        clients, count = next(iter(self.episodes.values())).shape[:2]
        draws = [
            stream(self.noise, "frozen", round, name, step).integers(count, size=self.draw)
            for name in self.names
        ]
        rows, columns = torch.arange(clients)[:, None], torch.from_numpy(np.stack(draws))
        return {name: value[rows, columns] for name, value in self.episodes.items()}

    def loss(self, params: Params, batch: Params) -> tuple[Tensor, dict[str, float]]:
        """Return the sum of the clients' losses."""

        def one(params: Params, parts: Params) -> Tensor:
            return self.method.loss(params, EpisodeBatch(**parts))[0]

        values: Tensor = vmap(one)(params, batch)
        return values.sum(), {}


@dataclass
class Frozen:
    r"""The meta-objective of a federation on frozen episodes.

    .. math:: F(\theta) = \frac{1}{N} \sum_c \frac{1}{M} \sum_{i=1}^{M} f_c(\theta; \xi_{ci})

    Attributes:
        stack: Of its N clients, with all M episodes of each.
        start: The meta-parameters of round 0.
        personal: With it, f_c is the loss after its inner step on F_c, as in Per-FedAvg.
    """

    stack: Stack
    start: Params
    personal: PerFedAvg | None = None
    _last: tuple[Params, float, Params] | None = field(default=None, init=False)

    @classmethod
    def of(cls, experiment: Experiment) -> Frozen:
        """Open the factories of ``experiment`` and draw their episodes."""
        factories = [Factory.open(experiment, c) for c in range(len(client_specs(experiment)))]
        factories = [factory for factory in factories if factory.trains]
        batches = [_tensors(factory.batch(FROZEN, 0)) for factory in factories]
        method: Any = factories[0].method
        names = tuple(factory.name for factory in factories)
        start = initial_parameters(experiment, None)
        return cls(Stack(method, stacked(batches), names), start)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the clients."""
        return self.stack.names

    @cached_property
    def singles(self) -> Stack:
        """Every episode as a client of its own."""
        flat = {k: v.reshape(-1, 1, *v.shape[2:]) for k, v in self.stack.episodes.items()}
        count = next(iter(flat.values())).shape[0]
        return replace(self.stack, episodes=flat, names=tuple(map(str, range(count))))

    def value(self, theta: Params) -> float:
        """Return F."""
        return self._at(theta)[1]

    def gradient(self, theta: Params) -> Params:
        """Return its gradient."""
        return self._at(theta)[2]

    def _at(self, theta: Params) -> tuple[Params, float, Params]:
        if self._last is None or self._last[0] is not theta:
            wide = stacked([theta] * len(self.names))
            if self.personal is None:
                found, report = gradient_of(self.stack.loss, wide, {}, self.stack.batch(0, 0))
            else:
                reply, _ = self.personal.client(self.stack, Sent(wide), {}, 0)
                found, report = reply.tensors, reply.metrics
            mean = {name: value.mean(dim=0) for name, value in found.items()}
            self._last = theta, report["loss"] / len(self.names), mean
        return self._last

    def variances(self, theta: Params) -> tuple[float, float]:
        r"""Return the variance of one episode's gradient within clients, and between clients.

        .. math:: \sigma^2 = \frac{1}{N M} \sum_{c,i} \lVert \nabla f_{ci} - \nabla F_c \rVert^2,
                  \quad \zeta^2 = \frac{1}{N} \sum_c \lVert \nabla F_c - \nabla F \rVert^2
        """
        single = self.singles
        wide = stacked([theta] * len(single.names))
        found, _ = gradient_of(single.loss, wide, {}, single.batch(0, 0))
        rows = torch.cat([value.reshape(len(single.names), -1) for value in found.values()], dim=1)
        each = rows.double().reshape(len(self.names), -1, rows.shape[1])
        means = each.mean(dim=1)
        within = (each - means[:, None]).square().sum(dim=2).mean()
        between = (means - means.mean(dim=0)).square().sum(dim=1).mean()
        return float(within), float(between)

    def curvature(self, theta: Params, rounds: int = 12, step: float = 1e-2) -> float:
        """Return the largest curvature of F at ``theta``, by powers of differences of gradients."""
        direction, size = self.gradient(theta), 0.0
        for _ in range(rounds):
            direction = scaled(direction, 1 / max(norm(direction), 1e-30))
            ahead = self.gradient(plus(theta, direction, step))
            behind = self.gradient(plus(theta, direction, -step))
            direction = scaled(minus(ahead, behind), 1 / (2 * step))
            size = norm(direction)
        return size


def asking(algorithm: Algorithm, stack: Stack) -> Asks:
    """Return how the clients of ``stack`` compute at once, by tensors that are added and scaled.

    Who remembers nothing beside others who do is taken to remember zeros, as in SCAFFOLD.
    """

    def ask(
        sent: Mapping[str, Sent], memories: Mapping[str, Params], number: int
    ) -> dict[str, tuple[Reply, Params]]:
        names = list(sent)
        wide = Sent(
            stacked([own.theta for own in sent.values()]),
            stacked([own.extras for own in sent.values()]),
        )
        known = next((memories[name] for name in names if memories[name]), {})
        memory = stacked([memories[name] or zeros(known) for name in names])
        reply, after = algorithm.client(stack.of(names), wide, memory, number)
        loss = {"loss": reply.metrics["loss"] / len(names)}
        return {
            name: (
                Reply(_row(reply.tensors, i), reply.weight, loss, _row(reply.extras, i)),
                _row(after, i),
            )
            for i, name in enumerate(names)
        }

    return ask


def adapted(order: Any, alpha: float, rate: float = 1.0) -> PerFedAvg:
    """Return Per-FedAvg whose clients take one step, by their exact or another meta-gradient."""
    return PerFedAvg(Averaging("parameters", local_lr=rate), alpha, order, delta=1e-2)


def _row(tensors: Params, index: int) -> Params:
    return {name: value[index] for name, value in tensors.items()}


def _tensors(batch: EpisodeBatch) -> Params:
    every = {part.name: getattr(batch, part.name) for part in fields(batch)}
    tensors = {name: value for name, value in every.items() if value is not None}
    return {n: v.float() if v.is_floating_point() else v for n, v in tensors.items()}
