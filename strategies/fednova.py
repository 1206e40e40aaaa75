"""FedNova: clients that took unequal numbers of local steps, on an equal footing."""

from __future__ import annotations

from dataclasses import dataclass

from strategies.algorithm import Algorithm, Received, Reply, Sent
from strategies.averaging import Averaging
from strategies.local import descend, minus, sampled, scaled
from strategies.task import LocalTask, Params


@dataclass(frozen=True)
class FedNova(Algorithm):
    r"""Updates are divided by the number of local steps behind them before they are averaged.

    .. math:: g = \tau_\mathrm{eff} \sum_c p_c \frac{x - y_c}{\tau_c}, \quad
              \tau_\mathrm{eff} = \sum_c p_c \tau_c, \quad p_c = n_c / \sum_{c'} n_{c'}

    x is what the server sent, :math:`y_c` where the :math:`\tau_c` steps of client c lead. With the
    plain mean a client counts as often as it steps, and another objective is minimised. Local
    steps are plain SGD, for which :math:`\lVert a_c \rVert_1 = \tau_c`.

    Source: Wang et al., Tackling the Objective Inconsistency Problem, 2020, equations 6 and 7.

    Attributes:
        settings: K (for clients that are not asked for another number of steps), eta_l and B.
    """

    settings: Averaging

    def client(
        self, task: LocalTask, sent: Sent, memory: Params, number: int
    ) -> tuple[Reply, Params]:
        """Return (x - y) / tau."""
        gradient = sampled(task, self.settings.rates, number)
        steps = sent.steps or self.settings.local_steps
        at, report = descend(sent.theta, steps, self.settings.local_lr, gradient)
        update = scaled(minus(sent.theta, at), 1 / steps)
        return Reply(update, self.settings.weight(steps), report), memory

    def server(self, received: Received, memory: Params) -> tuple[Params, Params]:
        """Return tau_eff times what the rule makes of the normalised updates."""
        pseudo, memory = super().server(received, memory)
        weights, usual = received.weights, self.settings.local_steps
        taus = [received.steps.get(name, usual) for name in received.replies]
        effective = sum(n * tau for n, tau in zip(weights, taus, strict=True)) / sum(weights)
        return scaled(pseudo, effective), memory
