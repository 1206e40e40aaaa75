r"""A small smooth meta-learning problem of which everything is known, in float64.

An episode is adapted to by inner steps on a quadratic support loss; its query loss is the negative
logarithm of a Student-t density, up to constants:

.. math::
    w' = s + (1 - \alpha h)^n (w - s), \quad
    f(w) = \sum_j \rho(w'_j - a_j), \quad \rho(u) = \frac{\nu}{2} \log(1 + u^2 / \nu)

w are the meta-parameters in d dimensions; h, s and a the episode's curvature, support and query,
one number for each dimension; n inner steps of rate :math:`\alpha` on :math:`\sum_j h_j (w_j -
s_j)^2 / 2` lead from w to w'.

Constants. :math:`\rho''(u) = (1 - x) / (1 + x)^2` with :math:`x = u^2/\nu` is 1 at 0 and least at x
= 3, where it is -1/8: the loss is not convex. As w' is linear in w and dimensions do not mix,
:math:`\nabla^2 f` is diagonal with the entries :math:`(1 - \alpha h_j)^{2n} \rho''`. So the mean F
of any episodes has

.. math:: -L/8 \le \nabla^2 F \le L, \quad L = \max_j \operatorname{mean} (1 - \alpha h_j)^{2n}

Its gradient is bounded, :math:`|\rho'| \le \sqrt\nu / 2`, hence so is the variance of a batch.
F is a sum of functions of one variable, so its least value is found on a grid, and
:math:`\Delta = F(w_0) - \min F` is no guess. The episodes are finite in number, so F, its gradient
and the variance of a batch drawn with replacement are exact sums.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bayfed.seeds import stream
from strategies.task import Params

NAME = "w"
GRID = 4001
"""Points of a dimension at which the least value is sought, before it is refined."""


class Episodes(NamedTuple):
    """A stack of episodes, or one of them, each tensor ``... x d``."""

    h: Tensor
    s: Tensor
    a: Tensor


@dataclass(frozen=True)
class Problem:
    r"""What a federation of smooth tasks is drawn from.

    Client c has the centre :math:`\zeta z_c` and the curvature offset :math:`0.2 \zeta z'_c`, with
    standard normal z. A query lies at the centre plus noise plus ``slant`` times the episode's
    curvature, a support at the query plus noise.

    Attributes:
        clients: N.
        episodes: M, each client's own.
        dimensions: d.
        unlike: zeta, 0 = all clients hold the very same episodes.
        low: Least h.
        high: Largest h.
        slant: How far the query depends on the curvature, without which the first order is hardly
            biased.
        alpha: The inner rate.
        inner: n.
        nu: Of the Student-t.
        batch: B, episodes of a batch.
        seed: Of the episodes.
        noise: Of the batches, beside the seed.
    """

    clients: int = 8
    episodes: int = 32
    dimensions: int = 8
    unlike: float = 1.0
    low: float = 0.2
    high: float = 1.0
    slant: float = 2.0
    alpha: float = 0.5
    inner: int = 1
    nu: float = 4.0
    batch: int = 4
    seed: int = 0
    noise: int = 0

    def tasks(self) -> dict[str, SmoothTask]:
        """Return the task of each client by its name."""
        return {f"c{c:03d}": SmoothTask(self, c, self._episodes(c)) for c in range(self.clients)}

    def start(self) -> Params:
        """Return the meta-parameters of round 0, some way off the clients' centres."""
        return {NAME: torch.full((self.dimensions,), 4.0, dtype=torch.float64)}

    def _episodes(self, client: int) -> Episodes:
        shape = self.episodes, self.dimensions
        of = stream(self.seed, "smooth", "client", client)
        centre, tilt = of.standard_normal(self.dimensions), of.standard_normal(self.dimensions)
        random = stream(self.seed, "smooth", "episodes", client if self.unlike else 0)
        span = self.high - self.low
        h = self.low + span * random.random(shape)
        h = np.clip(h + 0.2 * span * self.unlike * tilt, self.low, self.high)
        slanted = self.slant * (h - (self.low + self.high) / 2) / max(span, 1e-12)
        a = self.unlike * centre + 0.5 * random.standard_normal(shape) + slanted
        s = a + 0.5 * random.standard_normal(shape)
        return Episodes(*(torch.from_numpy(x) for x in (h, s, a)))


@dataclass(frozen=True)
class SmoothTask:
    """The task of one client.

    Attributes:
        problem: What it was drawn from.
        client: Its number, which keys its batches.
        episodes: M of them, frozen.
        full: Whether a batch is all of them.

    >>> task = Problem().tasks()["c000"]
    >>> loss, _ = task.loss(Problem().start(), task.batch(1, 0))
    >>> loss.dtype, task.batch(1, 0).h.shape
    (torch.float64, torch.Size([4, 8]))
    """

    problem: Problem
    client: int
    episodes: Episodes
    full: bool = False

    def exactly(self) -> SmoothTask:
        """Return the task without the noise of batches."""
        return replace(self, full=True)

    def batch(self, round: int, step: int) -> Episodes:  # noqa: A002
        """Return B episodes drawn with replacement."""
        if self.full:
            return self.episodes
        of = self.problem
        random = stream(of.seed, "smooth", "batch", of.noise, self.client, round, step)
        chosen = torch.from_numpy(random.integers(len(self.episodes.h), size=of.batch))
        return Episodes(*(each[chosen] for each in self.episodes))

    def support(self, params: Params, episode: Episodes) -> Tensor:
        """Return the support loss, summed over dimensions."""
        return (episode.h * (params[NAME] - episode.s).square()).sum(-1) / 2

    def query(self, params: Params, episode: Episodes) -> Tensor:
        """Return the query loss of adapted parameters, summed over dimensions."""
        return self._rho(params[NAME] - episode.a).sum(-1)

    def loss(self, params: Params, batch: Episodes) -> tuple[Tensor, dict[str, float]]:
        """Return the mean of f over a batch; its gradient goes through the inner steps."""
        w = params[NAME].expand_as(batch.h)
        for _ in range(self.problem.inner):
            w = w - self.problem.alpha * batch.h * (w - batch.s)
        return self._rho(w - batch.a).sum(-1).mean(), {}

    @cached_property
    def reach(self) -> Tensor:
        r"""The derivative of w' by w, :math:`(1 - \alpha h)^n`, ``M x d``."""
        return (1 - self.problem.alpha * self.episodes.h) ** self.problem.inner

    def value(self, w: Tensor) -> Tensor:
        """Return the mean over episodes of each dimension's loss at ``w``, ``... x d``."""
        return self._rho(self._residual(w.unsqueeze(-2))).mean(-2)

    def gradients(self, w: Tensor) -> Tensor:
        """Return the gradient of each episode in closed form, ``M x d``."""
        u = self._residual(w)
        return self.reach * u / (1 + u.square() / self.problem.nu)

    def curvature(self, w: Tensor) -> Tensor:
        """Return the diagonal of the Hessian of the mean over episodes, ``... x d``."""
        x = self._residual(w.unsqueeze(-2)).square() / self.problem.nu
        return (self.reach.square() * (1 - x) / (1 + x).square()).mean(-2)

    def variance(self, w: Tensor) -> float:
        """Return the mean squared distance of a batch's gradient from the full one."""
        return float(self.gradients(w).var(dim=0, correction=0).sum()) / self.problem.batch

    def _residual(self, w: Tensor) -> Tensor:
        return self.episodes.s + self.reach * (w - self.episodes.s) - self.episodes.a

    def _rho(self, u: Tensor) -> Tensor:
        return self.problem.nu / 2 * torch.log1p(u.square() / self.problem.nu)


class Objective:
    """F, the mean of the clients' objectives, exactly.

    Args:
        tasks: Of the clients, each weighing the same.
    """

    def __init__(self, tasks: Iterable[SmoothTask]) -> None:
        every = tuple(tasks)
        stacks = (torch.cat(one) for one in zip(*(t.episodes for t in every), strict=True))
        self._clients = len(every)
        self._all = replace(every[0], episodes=Episodes(*stacks))

    def value(self, theta: Params) -> float:
        """Return F."""
        return float(self._all.value(theta[NAME]).sum())

    def gradient(self, theta: Params) -> Params:
        """Return the gradient of F."""
        return {NAME: self._all.gradients(theta[NAME]).mean(0)}

    def variance(self, theta: Params) -> float:
        r"""Return :math:`\sigma^2` here: the mean over clients of the variance of a batch."""
        return float(self._variances(theta[NAME]).sum())

    def floor(self, rate: float, clients: int) -> float:
        r"""Return where SGD from the minimum settles, to leading order in the noise.

        .. math:: E \lVert \nabla F \rVert^2 \approx \frac{\eta}{N} \sum_j
                  \frac{H_j \sigma_j^2}{2 - \eta H_j}

        H is the diagonal of the Hessian at the minimum and :math:`\sigma_j^2` the variance there:
        the stationary law of the linearised iteration. The bound has :math:`L \eta \sigma^2 / N`.
        """
        w, _ = self.least
        H = self._all.curvature(w)
        return float((H * self._variances(w) / (2 - rate * H)).sum()) * rate / clients

    def _variances(self, w: Tensor) -> Tensor:
        each = self._all.gradients(w).reshape(self._clients, -1, w.shape[-1])
        return each.var(dim=1, correction=0).mean(0) / self._all.problem.batch

    @cached_property
    def smoothness(self) -> float:
        """L, as derived in the module's text."""
        return float(self._all.reach.square().mean(0).max())

    @cached_property
    def steepest(self) -> float:
        """The largest curvature where an episode is solved, which L bounds."""
        solved = torch.cat([self._all.curvature(part) for part in torch.split(self._zeros, 100)])
        return float(solved.abs().max())

    @cached_property
    def _zeros(self) -> Tensor:
        episodes = self._all.episodes
        return episodes.s + (episodes.a - episodes.s) / self._all.reach

    @cached_property
    def least(self) -> tuple[Tensor, float]:
        """Where F is least, and its value there: a grid, then Newton's method from its best."""
        # Between the zeros of the residuals, beyond which every term of F rises.
        low, high = self._zeros.amin(0), self._zeros.amax(0)
        share = torch.linspace(0, 1, GRID, dtype=torch.float64).unsqueeze(-1)
        line = low + share * (high - low)
        values = torch.cat([self._all.value(part) for part in torch.split(line, 100)])
        w = line.gather(0, values.argmin(0, keepdim=True)).squeeze(0)
        for _ in range(50):
            slope = self.gradient({NAME: w})[NAME]
            w = w - slope / self._all.curvature(w).clamp_min(1e-3)
        return w, self.value({NAME: w})
