"""Federated averaging of meta-parameters: client half and server half."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from torch import Tensor

from bayfed.config import Experiment
from bayfed.errors import FederationError
from strategies.outer import Iterate, Outer, split
from strategies.personal import Residuals
from strategies.server_optimizers import State
from strategies.task import LocalTask, Params, norm
from strategies.wire import ARRAYS, WEIGHT, Cohort, Member, arrays_of, instruction, metrics_of, pack

PERSONAL = "personal/"
"""Where the memory of the residuals stands among that of the server."""


@dataclass(frozen=True)
class Averaging:
    """The parameters of federated averaging, with their symbols in the papers.

    References:
        McMahan et al., Communication-Efficient Learning, 2017, Algorithm 1 (E, B, eta);
        Reddi et al., Adaptive Federated Optimization, 2021, Algorithm 1 (K, eta_l, eta).
    """

    aggregate: Literal["gradient", "parameters"] = "gradient"
    local_steps: int = 1
    """K: local steps (parameters), or batches averaged (gradient)."""
    local_lr: float = 0.01
    """eta_l: learning rate of a local step."""
    episodes: int = 1
    """B: episodes of one batch."""

    @classmethod
    def of(cls, experiment: Experiment) -> Averaging:
        """Return the parameters that ``experiment`` asks for."""
        server = experiment.federation.server
        return cls(
            aggregate=server.aggregate,
            local_steps=server.local_steps,
            local_lr=server.local_lr,
            episodes=experiment.federation.episodes,
        )


@dataclass(frozen=True)
class Update:
    """What a client returns: its update g_c, its weight n_c in episodes, and metrics."""

    tensors: Params
    episodes: int
    metrics: dict[str, float]


def local_update(task: LocalTask, theta: Params, settings: Averaging, number: int) -> Update:
    """Return the client half of a round.

    - gradient:   g_c = 1/K sum_k grad f_c(theta; xi_k)
    - parameters: theta_c = theta; K times theta_c <- theta_c - eta_l grad f_c(theta_c; xi_k);
      g_c = theta - theta_c

    f_c is the client's loss on a batch xi_k of B episodes; n_c = K B.
    """
    current = theta
    total = {name: torch.zeros_like(value) for name, value in theta.items()}
    reports: list[dict[str, float]] = []
    for step in range(settings.local_steps):
        gradient, report = _gradient(task, current, number, step)
        reports.append(report)
        if settings.aggregate == "parameters":
            gradient = {name: settings.local_lr * g for name, g in gradient.items()}
            current = {name: value - gradient[name] for name, value in current.items()}
        total = {name: value + gradient[name] for name, value in total.items()}
    if settings.aggregate == "gradient":
        total = {name: value / settings.local_steps for name, value in total.items()}
    metrics = {key: sum(r[key] for r in reports) / len(reports) for key in reports[0]}
    return Update(total, settings.local_steps * settings.episodes, metrics)


def _gradient(
    task: LocalTask,
    theta: Params,
    number: int,
    step: int,
) -> tuple[Params, dict[str, float]]:
    leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
    loss, metrics = task.loss(leaves, task.batch(number, step))
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    gradient = {
        name: torch.zeros_like(leaf) if g is None else g
        for (name, leaf), g in zip(leaves.items(), found, strict=True)
    }
    return gradient, {**metrics, "loss": float(loss.detach())}


def weighted_mean(updates: Sequence[Params], weights: Sequence[float]) -> Params:
    """Return sum_c n_c g_c / sum_c n_c, added in the order given and in float64.

    >>> weighted_mean([{"w": torch.tensor([0.0])}, {"w": torch.tensor([4.0])}], [3, 1])
    {'w': tensor([1.])}
    """
    total = float(sum(weights))
    mean: Params = {}
    for name, first in updates[0].items():
        terms = (w * update[name].double() for update, w in zip(updates, weights, strict=True))
        mean[name] = (sum(terms, torch.zeros_like(first, dtype=torch.float64)) / total).to(first)
    return mean


class MetaFedAvg(FedAvg):
    """The server half: g = sum_c n_c g_c / sum_c n_c, clipped, then one optimiser step.

    The loop, the quorum and the checkpoints belong to the server; the clients of a
    round are named by ``cohort``, so that no global random state takes part.

    References:
        Reddi et al., Adaptive Federated Optimization, 2021, Algorithm 1.

    Args:
        settings: Of the averaging.
        outer: The server's step.
        cohort: Who trains in a round.
        everyone: Who is evaluated in a round.
        personal: Prefixes of the parameters with a residual for each client.
    """

    def __init__(
        self,
        settings: Averaging,
        outer: Outer,
        cohort: Cohort,
        everyone: Cohort,
        personal: Sequence[str] = (),
    ) -> None:
        super().__init__(weighted_by_key=WEIGHT)
        self.settings, self.outer = settings, outer
        self.cohort, self.everyone = cohort, everyone
        self.residuals = Residuals(personal, outer)
        self.shared = outer.start({})
        self.update_norm = 0.0

    @property
    def theta(self) -> Params:
        """The shared meta-parameters that were learned so far."""
        return self.shared.learned

    def restore(
        self, theta: Params, memory: State | None = None, personal: Params | None = None
    ) -> None:
        """Start from ``theta``, or go on where a run is resumed.

        Args:
            theta: The shared meta-parameters.
            memory: What :attr:`memory` was.
            personal: The residuals that were learned.

        Raises:
            ConfigError: there is no parameter that could have a residual.
        """
        own, state = split(memory or {}, PERSONAL)
        self.shared = self.outer.start(theta) if memory is None else Iterate.resumed(theta, state)
        self.residuals.restore(theta, personal or {}, own)

    @property
    def memory(self) -> State:
        """What going on needs beside what was learned."""
        own = {f"{PERSONAL}{name}": tensor for name, tensor in self.residuals.memory.items()}
        return self.shared.memory | own

    def configure_train(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,  # noqa: ARG002
    ) -> list[Message]:
        """Return one message for each sampled client."""
        start = _each(arrays, self.shared.value, self.residuals.trained)
        return self._messages(self.cohort(server_round), "train", start, config)

    def configure_evaluate(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,  # noqa: ARG002
    ) -> list[Message]:
        """Return one message for each client."""
        return self._messages(
            self.everyone(server_round), "evaluate", self.evaluated(arrays), config
        )

    def evaluated(self, arrays: ArrayRecord) -> Callable[[Member], ArrayRecord]:
        """Return what a member is evaluated with; ``arrays`` is for those without a residual."""
        return _each(arrays, self.shared.learned, self.residuals.evaluated)

    @staticmethod
    def _messages(
        members: Iterable[Member],
        kind: str,
        arrays: Callable[[Member], ArrayRecord],
        config: ConfigRecord,
    ) -> list[Message]:
        return [instruction(m, kind, {ARRAYS: arrays(m)}, config) for m in members]

    def refusal(self, reply: Message) -> str | None:
        """Return why the update in ``reply`` must not be averaged, or ``None``."""
        try:
            update, metrics = arrays_of(reply), metrics_of(reply)
        except FederationError as error:
            return str(error)
        episodes, most = metrics.get(WEIGHT, 0), self.settings.local_steps * self.settings.episodes
        if not 0 < episodes <= most:
            return f"{WEIGHT} is {episodes}, between 1 and {most} is expected"
        if not math.isfinite(metrics.get("loss", math.nan)):
            return "the loss is not finite"
        return mismatch(update, self.shared.value)

    def aggregate_train(
        self,
        server_round: int,
        replies: Iterable[Message],
    ) -> tuple[ArrayRecord, MetricRecord]:
        """Take one step along the mean of the replies, in the order in which they are given.

        A client's residual takes its own.

        Raises:
            FederationError: there is no reply.
        """
        replies = list(replies)
        if not replies:
            raise FederationError("no reply to average")
        reports = [metrics_of(reply) for reply in replies]
        weights = [report[WEIGHT] for report in reports]
        updates = [arrays_of(reply) for reply in replies]
        mean = weighted_mean(updates, weights)
        self.update_norm = norm(mean)
        self.shared = self.outer.step(self.shared, mean)
        if self.residuals:
            names = {member.client: member.name for member in self.cohort(server_round)}
            for update, report in zip(updates, reports, strict=True):
                self.residuals.step(names[int(report["partition"])], update)
        loss = sum(w * r["loss"] for w, r in zip(weights, reports, strict=True)) / sum(weights)
        return pack(self.shared.value), MetricRecord(
            {"loss": loss, "update_norm": self.update_norm}
        )


def _each(
    arrays: ArrayRecord, theta: Params, personal: Callable[[Params, str], Params]
) -> Callable[[Member], ArrayRecord]:
    """Return what each member is sent: ``arrays`` of ``theta``, or what is personal instead."""

    def of(member: Member) -> ArrayRecord:
        own = personal(theta, member.name)
        return arrays if own is theta else pack(own)

    return of


def mismatch(update: Params, template: Params) -> str | None:
    """Return how ``update`` differs in names, shapes or types, or where it is not finite.

    >>> mismatch({"w": torch.ones(2)}, {"w": torch.ones(3)})
    "tensor 'w' has shape (2,), (3,) is expected"
    """
    if update.keys() != template.keys():
        name = min(update.keys() ^ template.keys())
        return f"tensor {name!r} is {'missing' if name in template else 'not expected'}"
    reasons = (_tensor_mismatch(name, update[name], template[name]) for name in sorted(template))
    return next((reason for reason in reasons if reason), None)


def _tensor_mismatch(name: str, value: Tensor, template: Tensor) -> str | None:
    if value.shape != template.shape:
        shapes = f"{tuple(value.shape)}, {tuple(template.shape)} is expected"
        return f"tensor {name!r} has shape {shapes}"
    if value.dtype != template.dtype:
        return f"tensor {name!r} has dtype {value.dtype}, {template.dtype} is expected"
    if not bool(torch.isfinite(value).all()):
        return f"tensor {name!r} holds NaN or Inf"
    return None
