"""FedProx: local steps that are held near the meta-parameters they started from."""

from __future__ import annotations

from dataclasses import dataclass

from strategies.algorithm import Algorithm, Reply, Sent
from strategies.averaging import Averaging
from strategies.local import descend, minus, pulled, sampled
from strategies.task import LocalTask, Params


@dataclass(frozen=True)
class FedProx(Algorithm):
    r"""Local gradient steps on a loss with a proximal term.

    .. math:: h_c(w; \theta) = f_c(w) + \frac{\mu}{2} \lVert w - \theta \rVert^2

    Source: Li et al., Federated Optimization in Heterogeneous Networks, 2020, Algorithm 2.

    Attributes:
        settings: K, eta_l and B.
        mu: Of the proximal term; with 0 this is FedAvg.
    """

    settings: Averaging
    mu: float = 0.1

    def client(
        self, task: LocalTask, sent: Sent, memory: Params, number: int
    ) -> tuple[Reply, Params]:
        """Return theta - w after K steps on h_c."""
        own = sampled(task, self.settings.rates, number)
        steps = sent.steps or self.settings.local_steps
        gradient = pulled(own, sent.theta, self.mu)
        at, report = descend(sent.theta, steps, self.settings.local_lr, gradient)
        return Reply(minus(sent.theta, at), self.settings.weight(steps), report), memory
