"""FedSGD and FedAvg: their settings, and the pair of halves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bayfed.config import Experiment
from strategies.algorithm import Algorithm, Reply, Sent
from strategies.local import Report, mean_of, minus, plus, sampled, scaled, zeros
from strategies.task import LocalTask, Params


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
    rates: Mapping[str, float] = field(default_factory=dict)
    """Learning-rate multipliers of the server by prefix; what it does not move stays here too."""

    def weight(self, steps: int) -> int:
        """Return n_c of a client that took ``steps`` steps.

        A mean gradient weighs as the K B episodes behind it. theta - theta_c is as long as its K
        steps already, so it weighs B: with K B a client would count by the square of its steps.

        >>> [Averaging(kind, episodes=2).weight(3) for kind in ("gradient", "parameters")]
        [6, 2]
        """
        return steps * self.episodes if self.aggregate == "gradient" else self.episodes

    @property
    def most(self) -> int:
        """The largest weight of an update."""
        return self.weight(self.local_steps)

    @classmethod
    def of(cls, experiment: Experiment) -> Averaging:
        """Return the parameters that ``experiment`` asks for."""
        server = experiment.federation.server
        return cls(
            aggregate=server.aggregate,
            local_steps=server.local_steps,
            local_lr=server.local_lr,
            episodes=experiment.federation.episodes,
            rates=experiment.method.rates,
        )


@dataclass(frozen=True)
class Average(Algorithm):
    r"""FedSGD (``aggregate="gradient"``) or FedAvg (``"parameters"``): the mean of the updates.

    .. math::
        g_c = \frac{1}{K} \sum_{k=1}^{K} \nabla f_c(\theta; \xi_k), \quad \text{or} \quad
        g_c = \theta - \theta_c, \; K \text{ times } \theta_c \leftarrow \theta_c - \eta_l
        \nabla f_c(\theta_c; \xi_k) \text{ from } \theta

    :math:`f_c` is the client's loss on a batch :math:`\xi_k` of B episodes; :math:`n_c = K B` for a
    gradient and B for :math:`\theta - \theta_c`, so that clients of equal data count equally.

    Source: McMahan et al., Communication-Efficient Learning, 2017, Algorithm 1.

    Attributes:
        settings: K, eta_l and B.
    """

    settings: Averaging

    def client(
        self, task: LocalTask, sent: Sent, memory: Params, number: int
    ) -> tuple[Reply, Params]:
        """Return g_c."""
        of, steps = self.settings, sent.steps or self.settings.local_steps
        theta, total = sent.theta, zeros(sent.theta)
        gradient_at, reports = sampled(task, of.rates, number), list[Report]()
        for step in range(steps):
            gradient, report = gradient_at(theta, step)
            reports.append(report)
            if of.aggregate == "parameters":
                gradient = scaled(gradient, of.local_lr)
                theta = minus(theta, gradient)
            total = plus(total, gradient)
        if of.aggregate == "gradient":
            total = {name: value / steps for name, value in total.items()}
        return Reply(total, of.weight(steps), mean_of(reports)), memory
