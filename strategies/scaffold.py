"""SCAFFOLD: local steps corrected by what the other clients' gradients are."""

from __future__ import annotations

from dataclasses import dataclass

from strategies.algorithm import Algorithm, Received, Reply, Sent
from strategies.averaging import Averaging
from strategies.local import Report, descend, minus, plus, sampled, scaled, zeros
from strategies.rules import weighted_mean
from strategies.task import LocalTask, Params


@dataclass(frozen=True)
class Scaffold(Algorithm):
    r"""Control variates take the clients' differences out of the local steps.

    .. math::
        y \leftarrow y - \eta_l (g_c(y) - c_c + c), \quad
        c_c^+ = c_c - c + \frac{x - y}{K \eta_l}, \quad
        c \leftarrow c + \frac{|S|}{N} \operatorname{mean}_{c \in S} (c_c^+ - c_c)

    x is what the server sent and y where the client's K steps lead; c and :math:`c_c` are the
    server's and the client's control variates, 0 at first, S the clients of a round and N all of
    them. The mean weighs clients as the updates do, so that with full participation c remains
    that mean of the :math:`c_c`. A client that loses its memory starts from :math:`c_c = 0`, and c
    then no longer is.

    Source: Karimireddy et al., SCAFFOLD, 2020, Algorithm 1 with option II.

    Attributes:
        settings: K, eta_l and B; the server's rate eta_g is that of the outer step.
    """

    settings: Averaging

    def start(self, theta: Params) -> Params:
        """Return c = 0."""
        return zeros(theta)

    def send(self, theta: Params, memory: Params, client: str) -> Sent:  # noqa: ARG002
        """Return x and c."""
        return Sent(theta, memory)

    def extras(self, theta: Params) -> Params:
        """Return what c_c^+ - c_c is like."""
        return theta

    def client(
        self, task: LocalTask, sent: Sent, memory: Params, number: int
    ) -> tuple[Reply, Params]:
        """Return x - y with c_c^+ - c_c as extras, and remember c_c^+."""
        own, rate = memory or zeros(sent.theta), self.settings.local_lr
        correction = minus(sent.extras, own)
        own_gradient = sampled(task, self.settings.rates, number)

        def gradient(at: Params, step: int) -> tuple[Params, Report]:
            found, report = own_gradient(at, step)
            return plus(found, correction), report

        steps = sent.steps or self.settings.local_steps
        at, report = descend(sent.theta, steps, rate, gradient)
        update = minus(sent.theta, at)
        change = minus(scaled(update, 1 / (steps * rate)), sent.extras)
        reply = Reply(update, self.settings.weight(steps), report, change)
        return reply, plus(own, change)

    def server(self, received: Received, memory: Params) -> tuple[Params, Params]:
        """Return what the rule makes of the updates, and the new c."""
        pseudo, _ = super().server(received, memory)
        replies = received.replies.values()
        change = weighted_mean([reply.extras for reply in replies], received.weights)
        return pseudo, plus(memory, change, len(replies) / received.clients)
