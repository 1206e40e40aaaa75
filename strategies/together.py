"""The client half of an algorithm for many clients at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from strategies.algorithm import Algorithm, Reply, Sent
from strategies.local import Report, mean_of
from strategies.task import LocalTask, Params


@dataclass
class Together:
    r"""The learning problems of several clients as one, which each sees through its own parameters.

    .. math:: f(\theta_1 \ldots \theta_C; \xi) = \sum_c f_c(\theta_c; \xi_c), \quad
              \nabla_{\theta_c} f = \nabla f_c(\theta_c; \xi_c)

    Parameters and batches have a leading dimension of clients, and one vmap computes all losses.

    Attributes:
        tasks: The clients'; their losses are one function, their batches dataclasses of tensors.
        reports: What each client's steps have told so far.
    """

    tasks: Sequence[LocalTask]
    reports: list[list[Report]] = field(init=False)

    def __post_init__(self) -> None:
        self.reports = [[] for _ in self.tasks]

    def batch(self, round: int, step: int) -> Any:  # noqa: A002
        """Return the episodes of one local step of all clients."""
        batches = [task.batch(round, step) for task in self.tasks]
        return type(batches[0])(**stacked([_tensors(batch) for batch in batches]))

    def loss(self, params: Params, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Return the sum of the clients' losses; their metrics are kept in the reports."""

        def one(params: Params, parts: Params) -> tuple[Tensor, Params]:
            value, metrics = self.tasks[0].loss(params, type(batch)(**parts))
            return value, {name: torch.as_tensor(metric) for name, metric in metrics.items()}

        values, metrics = vmap(one)(params, _tensors(batch))
        told = {**metrics, "loss": values}
        columns = {name: column.tolist() for name, column in told.items()}
        for client, reports in enumerate(self.reports):
            reports.append({name: column[client] for name, column in columns.items()})
        return values.sum(), {}


def together(
    algorithm: Algorithm, tasks: Sequence[LocalTask], sent: Sequence[Sent], number: int
) -> list[Reply]:
    """Return the reply of each client of an algorithm that is a sum of tensors: averaging.

    Args:
        algorithm: Whose client half adds and scales tensors, and remembers nothing.
        tasks: Of the clients.
        sent: To each of them; all take as many steps.
        number: Of the round.
    """
    problem = Together(tasks)
    theta = stacked([one.theta for one in sent])
    reply, _ = algorithm.client(problem, Sent(theta, steps=sent[0].steps), {}, number)
    return [
        Reply(
            {name: tensor[client] for name, tensor in reply.tensors.items()},
            reply.weight,
            mean_of(problem.reports[client]),
        )
        for client in range(len(tasks))
    ]


def stacked(each: Sequence[Mapping[str, Tensor]]) -> Params:
    """Return tensors of equal shapes along a new first dimension.

    >>> stacked([{"w": torch.tensor(1.0)}, {"w": torch.tensor(2.0)}])
    {'w': tensor([1., 2.])}
    """
    return {name: torch.stack([one[name] for one in each]) for name in each[0]}


def _tensors(batch: Any) -> Params:
    """Return the tensors of a dataclass."""
    every = {part.name: getattr(batch, part.name) for part in fields(batch)}
    return {name: value for name, value in every.items() if value is not None}
