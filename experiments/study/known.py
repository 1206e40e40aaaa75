"""The smooth problem as a subject of the checks: all constants are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from experiments.study.rules import SMOOTH, Rules
from experiments.study.smooth import NAME, Objective, Problem
from experiments.study.subject import Tasks
from strategies.task import Params

HOLDS = {
    "deterministic": "all. Near a minimum F is locally strongly convex, which the bound does not "
    "use: the fall is geometric there, and a line on logarithmic axes describes it badly.",
    "stochastic": "all; the bound is on an expectation, each run is held to it. sigma^2 is the "
    "largest variance at a point that any run visited, an exact sum.",
    "clients": "all. Clients hold the same episodes and draw their own batches, so that F is the "
    "same for every N; runs start at the minimum of F, where Delta = 0. The bound is of order "
    "1/N; the floor itself is so to leading order in eta only (Objective.floor). At the larger "
    "rate and few clients the iterates swing so wide that F is flatter there, and the floor lies "
    "below its leading order.",
    "first_order": "all; full gradients, so that the floor is no noise. The floor needs curvatures "
    "that are unlike between episodes and go with the residual (slant). The support loss is "
    "quadratic: the Hessian-free quotient has no error here but rounding. alpha^2 is the leading "
    "term; larger alphas are drawn and not fitted.",
    "drift": "all, with full gradients; eta_l is constant. To first order the floor grows like "
    "(K - 1)^2, for small eta_l K; larger K bend it.",
    "inner": "support losses with curvature of both signs, h in [-1, 1], without which a constant "
    "rate contracts; L is finite at every n, but not of one size.",
}


@dataclass(frozen=True)
class Known:
    """A :class:`~experiments.study.smooth.Problem`, of which a batch is one episode.

    What holds in all checks: F is L-smooth with the L derived in that module, it is bounded below
    and Delta is known; batches are unbiased and independent between clients and rounds, and their
    variance is finite. F is not convex.

    >>> subject = Known(Problem(clients=2))
    >>> subject.delta(subject.start(), 0.0) > 0
    True
    """

    problem: Problem
    rules: Rules = SMOOTH
    holds: ClassVar[dict[str, str]] = HOLDS
    rates: ClassVar[dict[str, float]] = {}
    unit: ClassVar[float] = 1.0

    @property
    def title(self) -> str:
        """Of the summary."""
        return f"Theory checks on a small smooth problem (seed {self.problem.seed}), float64"

    @cached_property
    def objective(self) -> Objective:
        """F."""
        return Objective(replace(self.problem, batch=1).tasks().values())

    def start(self) -> Params:
        """Return the meta-parameters of round 0."""
        return self.problem.start()

    def bottom(self) -> Params:
        """Return where F is least."""
        return {NAME: self.objective.least[0]}

    def approach(self) -> Params:
        """Return the start: rounds are cheap."""
        return self.start()

    def delta(self, theta: Params, seen: float) -> float:
        """Return F(theta) - min F."""
        del seen
        return self.objective.value(theta) - self.objective.least[1]

    def smoothness(self, points: Sequence[Params]) -> float:
        """Return L, which holds everywhere."""
        del points
        return self.objective.smoothness

    def exactly(self) -> Tasks:
        """Return the clients' tasks with full gradients."""
        return {name: task.exactly() for name, task in self.problem.tasks().items()}

    def noisy(self, noise: int, clients: int | None = None) -> Tasks:
        """Return them with batches of one episode."""
        number = self.problem.clients if clients is None else clients
        return replace(self.problem, batch=1, noise=noise, clients=number).tasks()

    def alike(self) -> Known:
        """Return the problem whose clients hold the very same episodes."""
        return Known(replace(self.problem, unlike=0.0), self.rules)

    def adapted(self, alpha: float) -> Known:
        """Return the problem with this inner rate."""
        return Known(replace(self.problem, alpha=alpha), self.rules)
