"""Checks of rates: what full and what noisy gradients reach, each a claim of the theory.

Every check takes a :class:`~experiments.study.subject.Subject`, which tells what it knows or
estimates of its constants, and which assumptions hold for it.

Source: Fallah et al., On the Convergence Theory of MAML, 2020.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise, product
from statistics import fmean

from experiments.study.curvature import jump
from experiments.study.loop import Point
from experiments.study.outcome import Check, Mark
from experiments.study.rules import ROUNDING
from experiments.study.slopes import slope
from experiments.study.subject import (
    SLOPE,
    UNBOUNDED,
    Subject,
    course,
    fedsgd,
    looks,
    steady,
)
from strategies.task import norm


def deterministic(subject: Subject) -> Check:
    """Return whether full gradients obey the bound at every T."""
    of = subject.rules.deterministic
    L, seen, found = steady(subject)
    points = found.points
    delta = subject.delta(subject.start(), min(point.value for point in points))
    least = list(accumulate((point.slope for point in points), min))
    bound = [2 * delta * L / T for T in range(1, len(least) + 1)]
    line = slope(*zip(*((T, y) for T, y in enumerate(least, 1) if y > ROUNDING), strict=True))
    shares = [y / b for y, b in zip(least, bound, strict=True)]
    beyond = next((T for T, share in enumerate(shares, 1) if share > 1), None)
    within = beyond is None and not found.diverged
    jumps = jump(subject.objective.value, subject.start(), subject.bottom())
    return Check(
        name="deterministic",
        claim="FedSGD with full gradients and eta = 1/L: min ||grad F||^2 <= 2 Delta / (eta T).",
        rule="the bound holds at every T, and the interval of the slope reaches "
        f"{of.slope:g} or below; it does not apply where the path meets a larger L than that of "
        "its rate.",
        holds=subject.holds["deterministic"],
        passed=within and line.low <= of.slope if seen <= L else None,
        numbers={
            "L": f"{L:.4f}",
            "largest L seen on the path": f"{seen:.4f}",
            "largest curvature along a step": f"{_steepest(points, 1 / L):.4f}",
            "jump of F on the line to the least found": f"{jumps:.1e}",
            "F": f"{points[0].value:.4f} to {points[-1].value:.4f}",
            "Delta": f"{delta:.4f}",
            "T": f"1 to {len(least)}",
            "largest share of the bound": f"{max(shares):.3f}",
            "first T beyond the bound": str(beyond or "none"),
            "slope": str(line),
        },
        abscissa="rounds T",
        marks=(
            *(Mark(SLOPE, "least", T, y, y > ROUNDING) for T, y in enumerate(least, 1)),
            *(Mark(SLOPE, "bound 2 Delta / (eta T)", T, b) for T, b in enumerate(bound, 1)),
        ),
    )


def _steepest(points: Sequence[Point], rate: float) -> float:
    r"""Return the largest curvature along a step, which at most L is needed for the bound.

    .. math:: 2 \frac{F(\theta_{t+1}) - F(\theta_t) + \eta \lVert \nabla F(\theta_t) \rVert^2}
              {\eta^2 \lVert \nabla F(\theta_t) \rVert^2}

    Unlike curvatures at points it counts kinks and jumps of F between them.
    """
    steps = [(a, b) for a, b in pairwise(points) if a.slope > ROUNDING**0.5]
    each = (2 * (b.value - a.value + rate * a.slope) / (rate**2 * a.slope) for a, b in steps)
    return max(each, default=math.nan)


def stochastic(subject: Subject) -> Check:
    """Return whether noisy gradients obey the bound at every T, each a run of its own."""
    of, objective = subject.rules.stochastic, subject.objective
    start, N = subject.start(), len(subject.exactly())
    L, seen, whole = steady(subject)[0] / of.share, 0.0, True
    rates = {T: math.sqrt(of.lengths[0] / T) / L for T in of.lengths}
    means: dict[int, list[float]] = {T: [] for T in of.lengths}
    variance, lowest = 0.0, math.inf
    for T, noise in product(of.lengths, range(of.repeats)):
        found = course(subject, fedsgd(subject), rates[T], subject.noisy(noise), start, T)
        means[T].append(fmean(point.slope for point in found.points))
        whole &= not found.diverged
        lowest = min(lowest, *(point.value for point in found.points))
        some = looks(subject, found)
        variance = max(variance, *(objective.variance(theta) for theta in some))
        seen = max(seen, subject.smoothness(some))
    delta = subject.delta(start, lowest)
    bound = {T: 2 * delta / (eta * T) + seen * eta * variance / N for T, eta in rates.items()}
    points = [(T, y) for T in of.lengths for y in means[T]]
    line = slope(*zip(*points, strict=True))
    share = max(y / bound[T] for T, y in points)
    part = seen * rates[of.lengths[0]] * variance / N / bound[of.lengths[0]]
    name = "bound 2 Delta / (eta T) + L eta sigma^2 / N"
    return Check(
        name="stochastic",
        claim="FedSGD on batches with eta of order 1/sqrt(T): mean ||grad F||^2 <= "
        "2 Delta / (eta T) + L eta sigma^2 / N.",
        rule="every run is within the bound, and the interval of the slope reaches "
        f"{of.slope:g} or below; it does not apply where a run meets a larger L than that of its "
        "rate.",
        holds=subject.holds["stochastic"],
        passed=whole and share <= 1 and line.low <= of.slope if seen <= L else None,
        numbers={
            "1/eta": f"{L:.4f} at T = {of.lengths[0]}, then as sqrt(T)",
            "largest L": f"{seen:.4f}",
            "Delta": f"{delta:.4f}",
            "sigma^2": f"{variance:.4f}",
            "runs of each T": str(of.repeats),
            "largest share of the bound": f"{share:.3f}",
            "share of the noise in the bound": f"{part:.3f}",
            "slope": str(line),
        },
        abscissa="rounds T, each a run of its own",
        marks=(
            *(Mark(SLOPE, "mean", T, y, fit=True) for T, y in points),
            *(Mark(SLOPE, name, T, b) for T, b in bound.items()),
        ),
    )


def clients(subject: Subject) -> Check:
    """Return whether the noise floor falls like 1/N, to leading order in the rate."""
    of, every, subject = subject.rules.clients, subject.rules.every, subject.alike()
    check = partial(
        Check,
        name="clients",
        claim="The noise term L eta sigma^2 / N falls like 1/N with the number of clients.",
        rule="every run is within 2 Delta / (eta T) and the term, and at the smaller rate the "
        f"interval of the slope holds {of.slope:g} and lies below {of.without:g}.",
        holds=subject.holds["clients"],
        abscissa="clients N",
    )
    objective, start = subject.objective, subject.bottom()
    L = subject.smoothness([start])
    if math.isinf(L):
        return check(passed=None, numbers=UNBOUNDED, marks=())
    rates, rounds = [share / L for share in of.shares], of.rounds
    means: dict[float, list[tuple[int, float]]] = {rate: [] for rate in rates}
    variance, lowest, whole = 0.0, math.inf, True
    for (rate, T), N, noise in product(
        zip(rates, rounds, strict=True), of.numbers, range(of.repeats)
    ):
        tasks = subject.noisy(noise, N)
        found = course(subject, fedsgd(subject), rate, tasks, start, T, every=every)
        whole &= not found.diverged
        means[rate].append((N, fmean(point.slope for point in found.points)))
        lowest = min(lowest, *(point.value for point in found.points))
        some = looks(subject, found)
        variance = max(variance, *(objective.variance(theta) for theta in some))
        L = max(L, subject.smoothness(some))
    lines = [slope(*zip(*points, strict=True)) for points in means.values()]
    delta = subject.delta(start, lowest)
    bounds = {
        (rate, N): 2 * delta / (rate * T) + L * rate * variance / N
        for rate, T in zip(rates, rounds, strict=True)
        for N in of.numbers
    }
    leading = {key: floor for key in bounds if (floor := objective.floor(*key)) is not None}
    share = max(y / bounds[rate, N] for rate, points in means.items() for N, y in points)
    series = {"bound": bounds, "theory, leading order": leading}
    return check(
        passed=whole and share <= 1 and lines[-1].low <= of.slope <= lines[-1].high < of.without,
        numbers={
            "L": f"{L:.4f}",
            "Delta": f"{delta:.4f}",
            "sigma^2": f"{variance:.4f}",
            "eta": ", ".join(f"{rate:.3f}" for rate in rates),
            "rounds": ", ".join(map(str, rounds)),
            "runs of each N and eta": str(of.repeats),
            "||grad F||^2 at the start": f"{norm(objective.gradient(start)) ** 2:.2e}",
            "largest share of the bound": f"{share:.3f}",
            "slopes": ", ".join(map(str, lines)),
            **{
                f"measured over the leading order, eta = {rate:.3f}, by N": ", ".join(
                    f"{fmean(y for M, y in points if M == N) / leading[rate, N]:.3f}"
                    for N in of.numbers
                )
                for rate, points in means.items()
                if leading
            },
        },
        marks=(
            *(
                Mark(SLOPE, f"mean, eta = {rate:.3f}", N, y, fit=True)
                for rate, points in means.items()
                for N, y in points
            ),
            *(
                Mark(SLOPE, f"{name}, eta = {rate:.3f}", N, y)
                for name, of_rate in series.items()
                for (rate, N), y in of_rate.items()
            ),
        ),
    )
