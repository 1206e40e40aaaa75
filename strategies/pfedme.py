"""pFedMe: the shared parameters are the mean of what Moreau envelopes draw them to."""

from __future__ import annotations

from dataclasses import dataclass

from strategies.algorithm import Algorithm, Reply, Sent
from strategies.averaging import Averaging
from strategies.local import Report, descend, minus, pulled, sampled, scaled
from strategies.task import LocalTask, Params


@dataclass(frozen=True)
class PFedMe(Algorithm):
    r"""Local steps on the Moreau envelope of a client's loss.

    .. math::
        F_c(w) = \min_v f_c(v) + \frac{\lambda}{2} \lVert v - w \rVert^2, \quad
        w \leftarrow w - \eta_l \lambda (w - \hat v(w))

    :math:`\hat v` is where gradient steps on the problem inside lead from the last one; the client
    keeps it as its personal model. The server's beta is the rate of the outer step.

    Source: Dinh et al., Personalized Federated Learning with Moreau Envelopes, 2020, Algorithm 1.

    Attributes:
        settings: K (R in the paper), eta_l (eta) and B.
        pull: lambda.
        steps: Gradient steps on the problem inside.
        rate: Of these.
    """

    settings: Averaging
    pull: float = 1.0
    steps: int = 5
    rate: float = 0.05

    def personal(self, theta: Params, memory: Params) -> Params:
        """Return the client's own model."""
        return memory or theta

    def client(
        self, task: LocalTask, sent: Sent, memory: Params, number: int
    ) -> tuple[Reply, Params]:
        """Return theta - w, and remember the personal model."""
        personal, own_gradient = memory or sent.theta, sampled(task, self.settings.rates, number)

        def envelope(at: Params, step: int) -> tuple[Params, Report]:
            nonlocal personal

            def inside(own: Params, _: int) -> tuple[Params, Report]:
                return own_gradient(own, step)  # the batch of the local step

            proximal = pulled(inside, at, self.pull)
            personal, report = descend(personal, self.steps, self.rate, proximal)
            return scaled(minus(at, personal), self.pull), report

        steps = sent.steps or self.settings.local_steps
        at, report = descend(sent.theta, steps, self.settings.local_lr, envelope)
        return Reply(minus(sent.theta, at), self.settings.weight(steps), report), personal
