r"""The checks of :mod:`experiments.study.checks` where assumptions fail: on real factories.

Episodes are frozen, so that F and its gradient are exact sums and clients' batches are drawn from
them without bias, independently and with finite variance. What does not hold: numbers are float32;
F is smooth along a path at most, for its contrastive term normalises embeddings, and L is the
largest curvature that was met; inf F is the least F that was met, which makes bounds tighter.
The rate is a rule: half of 1/L of a pilot. Where a path is steeper than 1/eta there is no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from statistics import fmean

from experiments.study.checks import ORDERS, SLOPE
from experiments.study.frozen import Frozen, adapted, asking
from experiments.study.loop import Course, Point, run
from experiments.study.outcome import Check, Mark
from experiments.study.slopes import slope
from strategies.algorithm import Algorithm
from strategies.averaging import Average, Averaging
from strategies.local import minus, scaled
from strategies.outer import Outer
from strategies.scaffold import Scaffold
from strategies.server_optimizers import ServerOptimizer
from strategies.task import Params, norm

PILOT, ROUNDS = 40, 2000
"""Rounds; their numbers, here and below, fill a quarter of an hour on two cores."""
SHARED = (
    "frozen episodes: exact F and gradients, unbiased independent batches. Not: float64; a known "
    "L (the largest curvature met) and inf F (the least F met); smoothness beyond the path."
)


@dataclass(frozen=True)
class Ground:
    """What all checks stand on.

    Attributes:
        frozen: The objective.
        pilot: The largest curvature of F that a pilot met.
        rate: eta, half of its inverse.
        course: Of full gradients at that rate.
        steepest: The largest curvature on that course.
        least: The least F on it.
    """

    frozen: Frozen
    pilot: float
    rate: float
    course: Course
    steepest: float
    least: float

    @property
    def applies(self) -> bool:
        """Whether eta <= 1/L."""
        return self.rate * self.steepest <= 1

    @property
    def delta(self) -> float:
        """F at the start over the least F."""
        return self.course.points[0].value - self.least


def ground(frozen: Frozen) -> Ground:
    """Return what the checks on ``frozen`` stand on."""
    first = 0.5 / frozen.curvature(frozen.start)
    tried = _course(frozen, Average(Averaging()), first, frozen.start, PILOT)
    pilot = _steepest(frozen, tried, first)
    rate = 0.5 / pilot
    course = _course(frozen, Average(Averaging()), rate, frozen.start, ROUNDS)
    least = min(point.value for point in course.points)
    return Ground(frozen, pilot, rate, course, _steepest(frozen, course, rate), least)


def _course(
    frozen: Frozen, algorithm: Algorithm, rate: float, start: Params, rounds: int,
    fraction: float = 1.0, draw: int | None = None, noise: int = 0,
) -> Course:  # fmt: skip
    stack = replace(frozen.stack, draw=draw, noise=noise)
    tasks = dict.fromkeys(stack.names, stack)
    return run(
        algorithm, Outer(ServerOptimizer("sgd", rate)), tasks, start, rounds, frozen,
        fraction=fraction, seed=noise, ask=asking(algorithm, stack),
    )  # fmt: skip


def _steepest(frozen: Frozen, course: Course, rate: float) -> float:
    """Return the largest curvature on a course of full gradients, along it and across."""
    thetas = [point.theta for point in course.points]
    moves = [scaled(minus(a, b), 1 / rate) for a, b in pairwise(thetas)]
    along = [norm(minus(a, b)) / (rate * norm(a)) for a, b in pairwise(moves)]
    some = thetas[:: max(1, len(thetas) // 5)]
    return max(*along, *(frozen.curvature(theta) for theta in some))


def _variances(ground: Ground, courses: Sequence[Course]) -> tuple[float, float]:
    """Return the largest variances within and between clients at points of some courses."""
    points = [point for course in courses for point in (course.points[0], course.points[-1])]
    found = [ground.frozen.variances(point.theta) for point in points]
    return max(within for within, _ in found), max(between for _, between in found)


def _mean(points: Sequence[Point]) -> float:
    return fmean(point.slope for point in points)


def deterministic(ground: Ground) -> Check:
    """Return whether full gradients obey the bound at every T."""
    least = list(accumulate((point.slope for point in ground.course.points), min))
    times = range(1, len(least) + 1)
    bound = [2 * ground.delta / (ground.rate * T) for T in times]
    share = max(y / b for y, b in zip(least, bound, strict=True))
    line = slope(times, least)
    return Check(
        name="deterministic",
        claim="FedSGD with full gradients and eta <= 1/L: min ||grad F||^2 <= 2 Delta / (eta T).",
        rule="the bound holds at every T, and the interval of the slope reaches -1 or below.",
        holds=SHARED,
        passed=share <= 1 and line.low <= -1,
        numbers={
            "eta, L on the path": f"{ground.rate:.4f}, {ground.steepest:.3f}",
            "Delta": f"{ground.delta:.4f}",
            "T": f"1 to {len(least)}",
            "largest share of the bound": f"{share:.3f}",
            "slope": str(line),
        },
        abscissa="rounds T",
        marks=(
            *(Mark(SLOPE, "least", T, y, fit=True) for T, y in zip(times, least, strict=True)),
            *(Mark(SLOPE, "bound 2 Delta / (eta T)", T, b) for T, b in enumerate(bound, 1)),
        ),
        applies=ground.applies,
    )


def stochastic(ground: Ground) -> Check:
    """Return whether noisy gradients obey the bound at every T, each a run of its own."""
    lengths, repeats = (8, 16, 32, 64, 128, 256, 512, 1024), 2
    frozen, N = ground.frozen, len(ground.frozen.names)
    rates = {T: ground.rate * math.sqrt(lengths[0] / T) for T in lengths}
    courses = {
        (T, noise): _course(
            frozen, Average(Averaging()), rates[T], frozen.start, T, draw=1, noise=noise
        )
        for T in lengths
        for noise in range(repeats)
    }
    variance, _ = _variances(ground, list(courses.values()))
    points = [(T, _mean(course.points)) for (T, _), course in courses.items()]
    bound = {
        T: 2 * ground.delta / (eta * T) + ground.steepest * eta * variance / N
        for T, eta in rates.items()
    }
    line, share = slope(*zip(*points, strict=True)), max(y / bound[T] for T, y in points)
    return Check(
        name="stochastic",
        claim="FedSGD on single episodes with eta of order 1/sqrt(T): mean ||grad F||^2 <= "
        "2 Delta / (eta T) + L eta sigma^2 / N.",
        rule="every run is within the bound, and the interval of the slope reaches -1/2 or below.",
        holds=f"{SHARED} sigma^2 is the largest at the first and last points of the runs.",
        passed=share <= 1 and line.low <= -0.5,
        numbers={
            "sigma^2": f"{variance:.4f}",
            "eta": f"{rates[lengths[0]]:.4f} at T = {lengths[0]}, then as 1/sqrt(T)",
            "runs of each T": str(repeats),
            "largest share of the bound": f"{share:.3f}",
            "slope": str(line),
        },
        abscissa="rounds T, each a run of its own",
        marks=(
            *(Mark(SLOPE, "mean", T, y, fit=True) for T, y in points),
            *(Mark(SLOPE, "bound", T, b) for T, b in bound.items()),
        ),
        applies=ground.applies,
    )


def clients(ground: Ground) -> Check:
    """Return whether what noise leaves falls like 1/N with the number of sampled clients."""
    frozen, rounds, repeats = ground.frozen, 120, 3
    everyone = len(frozen.names)
    numbers = [N for N in (1, 2, 4, 8) if everyone > N] + [everyone]
    start, points, courses = ground.course.theta, list[tuple[int, float]](), list[Course]()
    for N in numbers:
        for noise in range(repeats):
            course = _course(
                frozen, Average(Averaging()), ground.rate, start, rounds,
                fraction=N / everyone, draw=1, noise=noise,
            )  # fmt: skip
            courses.append(course)
            points.append((N, _mean(course.points)))
    within, between = _variances(ground, courses)
    values = [point.value for course in courses for point in course.points]
    rest = values[0] - min(*values, ground.least)
    noises = {N: within + between * (everyone - N) / (everyone - 1) for N in numbers}
    bound = {
        N: 2 * rest / (ground.rate * rounds) + ground.steepest * ground.rate * noises[N] / N
        for N in numbers
    }
    line, share = slope(*zip(*points, strict=True)), max(y / bound[N] for N, y in points)
    calm = _mean(_course(frozen, Average(Averaging()), ground.rate, start, rounds).points)
    return Check(
        name="clients",
        claim="With N of the clients a round the noise term falls like 1/N.",
        rule="every run is within 2 Delta / (eta T) + L eta (sigma^2 + zeta^2 (C - N) / (C - 1)) "
        "/ N, and the interval of the slope holds -1.",
        holds=f"{SHARED} Clients are unlike: who is sampled is noise as well (zeta^2), which is 0 "
        f"where all C = {everyone} are. Runs start where full gradients had come to, which is no "
        "minimum.",
        passed=share <= 1 and line.low <= -1 <= line.high,
        numbers={
            "sigma^2, zeta^2": f"{within:.4f}, {between:.4f}",
            "rounds, runs of each N": f"{rounds}, {repeats}",
            "largest share of the bound": f"{share:.3f}",
            "slope": str(line),
            "mean by N": ", ".join(f"{fmean(y for M, y in points if M == N):.2e}" for N in numbers),
            "the same without noise": f"{calm:.2e}",
        },
        abscissa="clients N",
        marks=(
            *(Mark(SLOPE, "mean", N, y, fit=True) for N, y in points),
            *(Mark(SLOPE, "bound", N, b) for N, b in bound.items()),
            *(Mark(SLOPE, "without noise", N, calm) for N in numbers),
        ),
        applies=ground.applies,
    )


def first_order(ground: Ground) -> Check:
    """Return whether first-order MAML stops at a floor that exact and Hessian-free pass."""
    rounds = 200
    alphas = [factor / ground.pilot for factor in (0.25, 0.5, 1.0)]
    ends: dict[str, list[Point]] = {order: [] for order in ORDERS}
    for alpha in alphas:
        rate = ground.rate / (1 + alpha * ground.pilot) ** 2
        frozen = replace(ground.frozen, personal=adapted("exact", alpha))
        for order in ORDERS:
            course = _course(frozen, adapted(order, alpha), rate, ground.course.theta, rounds)
            ends[order].append(course.points[-1])
    floors = [point.slope for point in ends["first"]]
    settled = max(p.step**2 / p.slope for p in ends["first"])
    gap = max(p.slope / f for o in ORDERS[1:] for p, f in zip(ends[o], floors, strict=True))
    line = slope(alphas, floors)
    return Check(
        name="first_order",
        claim="First-order MAML (Per-FedAvg) stops where ||grad F||^2 is of order alpha^2; exact "
        "and Hessian-free gradients go below.",
        rule="the interval of the slope in alpha holds 2, and the others end below half of every "
        "floor.",
        holds=f"{SHARED} Each client's inner step is on all of its episodes. There is a floor only "
        "where first order has come to rest: its own step^2 is below a tenth of ||grad F||^2.",
        passed=line.low <= 2 <= line.high and gap < 0.5,
        numbers={
            "alpha": ", ".join(f"{alpha:.3f}" for alpha in alphas),
            "first order ends at": ", ".join(f"{y:.2e}" for y in floors),
            "largest step^2 over ||grad F||^2 there": f"{settled:.2f}",
            "largest end of the others, as a share": f"{gap:.2f}",
            "slope": str(line),
        },
        abscissa="inner rate alpha",
        marks=tuple(
            Mark(SLOPE, order, alpha, point.slope, order == "first")
            for order in ORDERS
            for alpha, point in zip(alphas, ends[order], strict=True)
        ),
        applies=ground.applies and settled < 0.1,
    )


def drift(ground: Ground) -> Check:
    """Return whether drift grows with the local steps, and what SCAFFOLD leaves of it."""
    counts, rounds, rate = (1, 2, 4, 8, 16), 200, ground.rate / 4
    start = ground.course.theta
    last: dict[str, dict[int, Point]] = {"FedAvg": {}, "SCAFFOLD": {}}
    for K in counts:
        settings = Averaging("parameters", K, rate)
        for name, algorithm in (("FedAvg", Average(settings)), ("SCAFFOLD", Scaffold(settings))):
            last[name][K] = _course(ground.frozen, algorithm, 1.0, start, rounds).points[-1]
    averaged, corrected = last["FedAvg"], last["SCAFFOLD"]
    several = counts[1:]
    apart = slope(counts, [averaged[K].drift for K in counts])
    grows = all(averaged[a].drift < averaged[b].drift for a, b in pairwise(counts))
    floors = all(averaged[a].slope < averaged[b].slope for a, b in pairwise(several))
    gap = max(corrected[K].slope / averaged[K].slope for K in several)
    rest = max(corrected[K].drift / averaged[K].drift for K in several)
    return Check(
        name="drift",
        claim="With K local steps clients drift apart, and FedAvg stops where the gradient of F "
        "is not 0; SCAFFOLD removes both.",
        rule="drift grows with every K and FedAvg's end with every K > 1; SCAFFOLD ends below a "
        "tenth of both.",
        holds=f"{SHARED} Full local gradients, eta_l = eta / 4. Runs start where full gradients "
        "had come to, so that a method with a floor leaves that place.",
        passed=grows and floors and apart.low > 0 and gap < 0.1 and rest < 0.1,
        numbers={
            "eta_l, rounds": f"{rate:.4f}, {rounds}",
            "slope of the drift in K": str(apart),
            "||grad F||^2 at the start": f"{ground.course.points[-1].slope:.2e}",
            "ends of FedAvg": ", ".join(f"{averaged[K].slope:.1e}" for K in counts),
            "ends of SCAFFOLD": ", ".join(f"{corrected[K].slope:.1e}" for K in counts),
            "largest share of SCAFFOLD in FedAvg's end, drift": f"{gap:.2g}, {rest:.2g}",
        },
        abscissa="local steps K",
        marks=(
            *(Mark("drift of the clients", name, K, p.drift, name == "FedAvg")
              for name, own in last.items() for K, p in own.items()),
            *(Mark(SLOPE, name, K, p.slope) for name, own in last.items() for K, p in own.items()),
        ),
        applies=ground.applies,
    )  # fmt: skip


CHECKS: dict[str, Callable[[Ground], Check]] = {
    "deterministic": deterministic,
    "stochastic": stochastic,
    "clients": clients,
    "first_order": first_order,
    "drift": drift,
}
