"""What a check of the theory asks of a learning problem."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from experiments.study.loop import Course, Exact, Point, run
from experiments.study.rules import ATTEMPTS, ROUNDING, Rules
from strategies.algorithm import Algorithm
from strategies.averaging import Average, Averaging
from strategies.outer import Outer
from strategies.server_optimizers import ServerOptimizer
from strategies.task import LocalTask, Params

SLOPE = "squared norm of the gradient of F"
LEAST = 1e-34
"""Stands for 0 on logarithmic axes."""
UNBOUNDED = {"L at the least F that was found": "infinite: a second derivative is no number there"}
"""Why a check that begins there does not apply."""
Tasks = Mapping[str, LocalTask]


class Objective(Exact, Protocol):
    """F, exactly, and the noise of its gradients."""

    def variance(self, theta: Params) -> float:
        r"""Return :math:`\sigma^2` here: the mean over clients of the variance of a batch."""

    def floor(self, rate: float, clients: int) -> float | None:
        """Return where SGD settles to leading order, None where that is not known."""


class Subject(Protocol):
    """A federated learning problem that the theory is held against."""

    @property
    def rules(self) -> Rules:
        """What is asked, and what counts as passed."""

    @property
    def title(self) -> str:
        """Of the summary."""

    @property
    def holds(self) -> Mapping[str, str]:
        """Which assumptions hold, and which do not, by the name of the check."""

    @property
    def rates(self) -> Mapping[str, float]:
        """Multipliers of the server: what has 0 is not moved."""

    @property
    def unit(self) -> float:
        """Of inner and local rates; 0 where none follows, for L is infinite."""

    @property
    def objective(self) -> Objective:
        """F."""

    def __hash__(self) -> int:
        """Return a number; what is computed once for a subject is kept under it."""

    def start(self) -> Params:
        """Return the meta-parameters of round 0."""

    def bottom(self) -> Params:
        """Return where F is least, as far as is known."""

    def approach(self) -> Params:
        """Return from where floors are asked for: near enough that the rounds suffice."""

    def delta(self, theta: Params, seen: float) -> float:
        """Return F(theta) - min F.

        Args:
            theta: Where a run starts.
            seen: The least F on it, for who does not know better.
        """

    def smoothness(self, points: Sequence[Params]) -> float:
        """Return L: as derived, or the largest curvature of F at these points."""

    def exactly(self) -> Tasks:
        """Return the clients' tasks with full gradients."""

    def noisy(self, noise: int, clients: int | None = None) -> Tasks:
        """Return them with batches of one episode, drawn by ``noise``.

        Args:
            noise: Of the batches.
            clients: So many; None = as many as there are.
        """

    def alike(self) -> Subject:
        """Return the problem whose clients hold the same episodes, so that F knows no N."""

    def adapted(self, alpha: float) -> Subject:
        """Return the problem whose F is that after one inner step of rate ``alpha``."""


def course(
    subject: Subject, algorithm: Algorithm, rate: float, tasks: Tasks, start: Params, rounds: int,
    until: Callable[[Point], bool] | None = None, every: int = 1,
) -> Course:  # fmt: skip
    """Return the run of ``algorithm`` with plain server steps."""
    outer = Outer(ServerOptimizer("sgd", rate))
    return run(algorithm, outer, tasks, start, rounds, subject.objective, until=until, every=every)


def fedsgd(subject: Subject) -> Average:
    """Return the algorithm whose rounds are steps along the mean gradient."""
    return Average(Averaging(rates=subject.rates))


def settled(point: Point) -> bool:
    """Tell whether a run no longer moves."""
    return point.step**2 < ROUNDING


def looks(subject: Subject, found: Course) -> list[Params]:
    """Return points of a run that are worth a costly look: spaced evenly in logarithm."""
    number, points = subject.rules.looks, found.points
    if number is None or number >= len(points):
        return [point.theta for point in points]
    indices = {round(len(points) ** (i / (number - 1))) - 1 for i in range(number)}
    return [points[i].theta for i in sorted(indices)]


@lru_cache(maxsize=1)
def steady(subject: Subject) -> tuple[float, float, Course]:
    """Return L by the rule, the largest seen on the path, and the run with eta = 1/L.

    The rule: L is that of the start; where the path of full gradients meets a larger one, the run
    begins anew with that, at most ``ATTEMPTS`` times.
    """
    start, tasks = subject.start(), subject.exactly()
    L, seen, found = 0.0, subject.smoothness([start]), Course([], start)
    for _ in range(ATTEMPTS):
        if seen <= L or math.isinf(seen):
            break
        L = seen
        rounds = subject.rules.deterministic.rounds
        found = course(subject, fedsgd(subject), 1 / L, tasks, start, rounds, settled)
        seen = subject.smoothness(looks(subject, found))
    return L, seen, found
