"""Per-FedAvg: averaging of what is a good start for one gradient step on a client's task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor
from torch.func import grad, grad_and_value, vmap

from bayfed.errors import ConfigError
from strategies.algorithm import Algorithm, Reply, Sent
from strategies.averaging import Averaging
from strategies.local import Report, descend, minus, plus, scaled, zeros
from strategies.server_optimizers import moved_of
from strategies.task import LocalTask, Params

Loss = Callable[[Params, Any], Tensor]
Order = Literal["exact", "hessian-free", "first"]


@runtime_checkable
class MetaTask(Protocol):
    """A task whose batches are stacks of episodes: trees of tensors, their first axis episodes."""

    def batch(self, round: int, step: int) -> Any:  # noqa: A002
        """Return the episodes of one local step."""

    def support(self, params: Params, episode: Any) -> Tensor:
        """Return the loss on the support of one episode, by torch functions alone."""

    def query(self, params: Params, episode: Any) -> Tensor:
        """Return the loss on its query."""


def meta_gradient(
    support: Loss, query: Loss, theta: Params, episode: Any, alpha: float,
    order: Order = "exact", delta: float = 1e-3,
) -> tuple[Params, Tensor]:  # fmt: skip
    r"""Return the gradient of the loss after one inner step, and that loss.

    .. math::
        F(\theta) = f_q(\theta'), \quad \theta' = \theta - \alpha \nabla f_s(\theta), \quad
        \nabla F = (I - \alpha \nabla^2 f_s(\theta))\, v, \quad v = \nabla f_q(\theta')

    - exact: as it stands, differentiated through the step;
    - hessian-free: :math:`\nabla^2 f_s(\theta) v \approx (\nabla f_s(\theta + \delta v) -
      \nabla f_s(\theta - \delta v)) / 2 \delta`;
    - first: v alone.

    Source: Fallah et al., Personalized Federated Learning with Theoretical Guarantees, 2020,
    equations 5 and 7 to 9; On the Convergence Theory of MAML, 2020, section 4.

    Args:
        support: f_s.
        query: f_q.
        theta: The meta-parameters.
        episode: What both losses are of.
        alpha: The inner rate.
        order: Which of the three.
        delta: Of the difference quotient.

    >>> import torch
    >>> square = lambda p, x: (p["w"] - x).square() / 2
    >>> at, x = {"w": torch.tensor(3.0)}, torch.tensor(1.0)
    >>> meta_gradient(square, square, at, x, 0.5)[0]["w"]  # (1 - .5) (w' - x), w' = 2
    tensor(0.5000)
    """
    slope = grad(support)

    def after(at: Params) -> Tensor:
        return query(plus(at, slope(at, episode), -alpha), episode)

    if order == "exact":
        found, loss = grad_and_value(after)(theta)
        return found, loss
    adapted = plus(theta, slope(theta, episode), -alpha)
    v, loss = grad_and_value(query)(adapted, episode)
    if order == "first":
        return v, loss
    ahead, behind = slope(plus(theta, v, delta), episode), slope(plus(theta, v, -delta), episode)
    curved = scaled(minus(ahead, behind), 1 / (2 * delta))
    return plus(v, curved, -alpha), loss


@dataclass(frozen=True)
class PerFedAvg(Algorithm):
    r"""Local steps on the loss after one inner step; the server averages.

    .. math:: w \leftarrow w - \beta (I - \alpha \nabla^2 f_s(w)) \nabla f_q(w - \alpha \nabla
              f_s(w)), \quad g_c = \theta - w

    A :class:`MetaTask` adapts to each of its episodes, whose gradients are averaged. Another task
    adapts to itself, as in the paper: :math:`f_s` is its loss on one batch and on its Hessian's,
    :math:`f_q` that on the next.

    Source: Fallah et al., Personalized Federated Learning with Theoretical Guarantees, 2020,
    Algorithm 1, with D'' = D.

    Attributes:
        settings: K (tau in the paper), eta_l (beta) and B; with K = 1 and an outer rate of 1 each
            round is a step on the mean meta-gradient.
        alpha: The inner rate.
        order: How the Hessian is taken.
        delta: Of the difference quotient of ``hessian-free``.
    """

    settings: Averaging
    alpha: float = 0.01
    order: Order = "exact"
    delta: float = 1e-3

    def client(
        self, task: LocalTask, sent: Sent, memory: Params, number: int
    ) -> tuple[Reply, Params]:
        """Return theta - w.

        Raises:
            ConfigError: every parameter has the rate 0.
        """

        def gradient(at: Params, step: int) -> tuple[Params, Report]:
            return self._gradient(task, at, number, step)

        steps = sent.steps or self.settings.local_steps
        at, report = descend(sent.theta, steps, self.settings.local_lr, gradient)
        return Reply(minus(sent.theta, at), self.settings.weight(steps), report), memory

    def _gradient(
        self, task: LocalTask, theta: Params, number: int, step: int
    ) -> tuple[Params, Report]:
        moved = {n: v.detach() for n, v in moved_of(theta, self.settings.rates).items()}
        if not moved:
            raise ConfigError("method.rates: every parameter has the rate 0")
        fixed = {name: value.detach() for name, value in theta.items() if name not in moved}
        if isinstance(task, MetaTask):
            found, loss = self._of_episodes(task, moved, fixed, task.batch(number, step))
        else:
            found, loss = self._of_batches(task, moved, fixed, number, step)
        gradient = zeros(theta) | {name: g.detach() for name, g in found.items()}
        return gradient, {"loss": float(loss.detach())}

    def _of_episodes(
        self, task: MetaTask, moved: Params, fixed: Params, batch: Any
    ) -> tuple[Params, Tensor]:
        def one(episode: Any) -> tuple[Params, Tensor]:
            return self._of_losses(task.support, task.query, moved, fixed, episode)

        found, loss = vmap(one)(batch)
        return {name: g.mean(dim=0) for name, g in found.items()}, loss.mean()

    def _of_batches(
        self, task: LocalTask, moved: Params, fixed: Params, number: int, step: int
    ) -> tuple[Params, Tensor]:
        batches = task.batch(number, 2 * step), task.batch(number, 2 * step + 1)
        return self._of_losses(
            lambda at, both: task.loss(at, both[0])[0],
            lambda at, both: task.loss(at, both[1])[0],
            moved,
            fixed,
            batches,
        )

    def _of_losses(
        self, support: Loss, query: Loss, moved: Params, fixed: Params, episode: Any
    ) -> tuple[Params, Tensor]:
        return meta_gradient(
            lambda at, own: support(fixed | at, own),
            lambda at, own: query(fixed | at, own),
            moved, episode, self.alpha, self.order, self.delta,
        )  # fmt: skip
