"""FedSGD and FedAvg as a pair of halves."""

from __future__ import annotations

from dataclasses import dataclass, replace

from strategies.algorithm import Algorithm, Reply, Sent
from strategies.fedavg import Averaging, local_update
from strategies.task import LocalTask, Params


@dataclass(frozen=True)
class Average(Algorithm):
    """FedSGD (``aggregate="gradient"``) or FedAvg (``"parameters"``): the mean of the updates.

    Source: McMahan et al., Communication-Efficient Learning, 2017, Algorithm 1.

    Attributes:
        settings: K, eta_l and B.
    """

    settings: Averaging

    def client(
        self, task: LocalTask, sent: Sent, memory: Params, number: int
    ) -> tuple[Reply, Params]:
        """Return what :func:`~strategies.fedavg.local_update` gives."""
        steps = sent.steps or self.settings.local_steps
        update = local_update(task, sent.theta, replace(self.settings, local_steps=steps), number)
        return Reply(update.tensors, update.episodes, update.metrics), memory
