"""The meta-objective of frozen episodes: exact sums, their gradients and curvatures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bayfed.episodes.episode import EpisodeBatch, stack
from experiments.study.curvature import largest_curvature
from experiments.study.frozen import Frozen
from strategies.local import gradient_of, minus, plus, scaled
from strategies.perfedavg import meta_gradient
from strategies.server_optimizers import moved_of
from strategies.task import Params, norm


class Sum:
    r"""F over all episodes, in one pass.

    .. math:: F(\theta) = \operatorname{mean}_c F_c(\theta), \quad
              F_c(\theta) = \operatorname{mean}_i f(\theta; \xi_{ci})

    f is the method's meta-loss and :math:`\xi_{ci}` the i-th frozen episode of client c.

    Args:
        frozen: The problem.
        groups: Episodes from which a client draws; each weighs the same.
    """

    def __init__(self, frozen: Frozen, groups: Sequence[EpisodeBatch]) -> None:
        self._frozen, self._groups = frozen, len(groups)
        self._all = stack(list(groups))
        self._last: tuple[Params, float, Params] | None = None

    def value(self, theta: Params) -> float:
        """Return F."""
        return self._at(theta)[0]

    def gradient(self, theta: Params) -> Params:
        """Return the gradient of F."""
        return self._at(theta)[1]

    def _at(self, theta: Params) -> tuple[float, Params]:
        """Return both, which are asked for one after the other."""
        if self._last is None or self._last[0] is not theta:
            self._last = (theta, *self._both(theta, self._all))
        return self._last[1:]

    def _both(self, theta: Params, batch: EpisodeBatch) -> tuple[float, Params]:
        of = self._frozen
        found, report = gradient_of(of.method.loss, theta, of.rates, batch)
        return report["loss"], found

    def variance(self, theta: Params) -> float:
        r"""Return :math:`\sigma^2` here: the mean over clients of the variance of an episode."""
        number = len(self._all)
        each = [self._both(theta, self._all[i : i + 1])[1] for i in range(number)]
        size = number // self._groups
        total = 0.0
        for first in range(0, number, size):
            own = each[first : first + size]
            mean = _mean(own)
            total += sum(norm(minus(one, mean)) ** 2 for one in own) / number
        return total

    def floor(self, rate: float, clients: int) -> float | None:  # noqa: ARG002
        """Return None: it would take the whole Hessian."""
        return None

    def curvature(self, theta: Params) -> float:
        """Return the largest curvature of what is moved."""
        moved = moved_of(theta, self._frozen.rates)
        return largest_curvature(
            lambda at: self._frozen.method.loss(theta | at, self._all)[0], moved
        )


class AfterStep(Sum):
    r"""F after one step of each client on its own loss, as Per-FedAvg has it.

    .. math:: F_\alpha(\theta) = \operatorname{mean}_c F_c(\theta - \alpha \nabla F_c(\theta))

    Source: Fallah et al., Personalized Federated Learning with Theoretical Guarantees, 2020.
    """

    def __init__(self, frozen: Frozen, groups: Sequence[EpisodeBatch], alpha: float) -> None:
        super().__init__(frozen, groups)
        self._of_clients, self._alpha = groups, alpha

    def _both(self, theta: Params, batch: EpisodeBatch) -> tuple[float, Params]:
        del batch
        moved = moved_of(theta, self._frozen.rates)

        def loss(at: Params, episodes: EpisodeBatch) -> Tensor:
            return self._frozen.method.loss(theta | at, episodes)[0]

        found = [meta_gradient(loss, loss, moved, own, self._alpha) for own in self._of_clients]
        value = float(torch.stack([one.detach() for _, one in found]).mean())
        still = {name: torch.zeros_like(tensor) for name, tensor in theta.items()}
        return value, still | _mean([{n: g.detach() for n, g in one.items()} for one, _ in found])


def _mean(each: Sequence[Params]) -> Params:
    total = each[0]
    for one in each[1:]:
        total = plus(total, one)
    return scaled(total, 1 / len(each))
