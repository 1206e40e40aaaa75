"""Ditto: a shared model by FedAvg, and beside it a model of each client's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from strategies.algorithm import Algorithm, Reply, Sent
from strategies.averaging import Average, Averaging
from strategies.local import descend, pulled, sampled
from strategies.task import LocalTask, Params


@dataclass(frozen=True)
class Ditto(Algorithm):
    r"""A client keeps v, which is drawn towards the shared meta-parameters it was last sent.

    .. math:: v \leftarrow v - \eta_p (\nabla f_c(v) + \lambda (v - \theta))

    v starts from the first :math:`\theta` and never leaves the client; the updates are those of
    FedAvg.

    Source: Li et al., Ditto: Fair and Robust Federated Learning through Personalization, 2021,
    Algorithm 1.

    Attributes:
        settings: Of the shared part.
        pull: lambda; 0 = each client alone.
        steps: s, steps on v in a round.
        rate: eta_p.
    """

    settings: Averaging
    pull: float = 0.1
    steps: int = 1
    rate: float = 0.01

    def personal(self, theta: Params, memory: Params) -> Params:
        """Return the client's own model."""
        return memory or theta

    def client(
        self, task: LocalTask, sent: Sent, memory: Params, number: int
    ) -> tuple[Reply, Params]:
        """Return the update of FedAvg, and remember v."""
        gradient = pulled(sampled(task, self.settings.rates, number), sent.theta, self.pull)
        reply, _ = Average(self.settings).client(task, sent, {}, number)
        own, report = descend(memory or sent.theta, self.steps, self.rate, gradient)
        metrics = reply.metrics | {"personal_loss": report["loss"]}
        return replace(reply, metrics=metrics), own
