r"""The checks, each of a claim of the theory on the problem of :mod:`experiments.study.smooth`.

What holds there in all of them: F is L-smooth with the L derived in that module, it is bounded
below and :math:`\Delta` is known; batches are unbiased and independent between clients and rounds,
and their variance is finite. F is not convex. What is particular to a check stands beside it.

Sources: Fallah et al., On the Convergence Theory of MAML, 2020; Fallah et al., Personalized
Federated Learning with Theoretical Guarantees, 2020; Karimireddy et al., SCAFFOLD, 2020; Ji et al.,
Theoretical Convergence of Multi-Step MAML, 2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import accumulate, pairwise, product
from statistics import fmean

from experiments.study.loop import Course, Point, run
from experiments.study.outcome import Check, Mark
from experiments.study.slopes import slope
from experiments.study.smooth import NAME, Objective, Problem, SmoothTask
from strategies.algorithm import Algorithm
from strategies.averaging import Average, Averaging
from strategies.outer import Outer
from strategies.perfedavg import Order, PerFedAvg
from strategies.scaffold import Scaffold
from strategies.server_optimizers import ServerOptimizer
from strategies.task import Params

SLOPE = "squared norm of the gradient of F"
ROUNDING = 1e-20
"""Squared norms below are rounding errors and are fitted by no line."""
ORDERS: tuple[Order, ...] = ("first", "hessian-free", "exact")
SMALL = Problem(clients=4)


def _sgd(rate: float) -> Outer:
    return Outer(ServerOptimizer("sgd", rate))


def _exactly(problem: Problem) -> dict[str, SmoothTask]:
    return {name: task.exactly() for name, task in problem.tasks().items()}


def _course(
    algorithm: Algorithm, rate: float, tasks: Mapping[str, SmoothTask], start: Params, rounds: int,
    until: Callable[[Point], bool] | None = None,
) -> Course:  # fmt: skip
    objective = Objective(tasks.values())
    return run(algorithm, _sgd(rate), tasks, start, rounds, objective, until=until)


def _settled(point: Point) -> bool:
    return point.step**2 < ROUNDING


def deterministic(seed: int) -> Check:
    """Return whether full gradients obey the bound at every T."""
    problem = replace(SMALL, seed=seed)
    tasks = _exactly(problem)
    objective = Objective(tasks.values())
    rate = 1 / objective.smoothness
    delta = objective.value(problem.start()) - objective.least[1]
    course = _course(Average(Averaging()), rate, tasks, problem.start(), 300, _settled)
    least = list(accumulate((point.slope for point in course.points), min))
    bound = [2 * delta / (rate * T) for T in range(1, len(least) + 1)]
    line = slope(*zip(*((T, y) for T, y in enumerate(least, 1) if y > ROUNDING), strict=True))
    within = all(y <= b for y, b in zip(least, bound, strict=True))
    share = max(y / b for y, b in zip(least, bound, strict=True))
    return Check(
        name="deterministic",
        claim="FedSGD with full gradients and eta = 1/L: min ||grad F||^2 <= 2 Delta / (eta T).",
        rule="the bound holds at every T, and the interval of the slope reaches -1 or below.",
        holds="all. Near a minimum F is locally strongly convex, which the bound does not use: "
        "the fall is geometric there, and a line on logarithmic axes describes it badly.",
        passed=within and line.low <= -1,
        numbers={
            "L": f"{objective.smoothness:.4f}",
            "Delta": f"{delta:.4f}",
            "T": f"1 to {len(least)}",
            "largest share of the bound": f"{share:.3f}",
            "slope": str(line),
        },
        abscissa="rounds T",
        marks=(
            *(Mark(SLOPE, "least", T, y, y > ROUNDING) for T, y in enumerate(least, 1)),
            *(Mark(SLOPE, "bound 2 Delta / (eta T)", T, b) for T, b in enumerate(bound, 1)),
        ),
    )


def stochastic(seed: int) -> Check:
    """Return whether noisy gradients obey the bound at every T, each a run of its own."""
    lengths, repeats = (16, 32, 64, 128, 256, 512, 1024), 5
    problem = replace(SMALL, seed=seed, batch=1)
    objective = Objective(problem.tasks().values())
    L, N = objective.smoothness, problem.clients
    delta = objective.value(problem.start()) - objective.least[1]
    rates = {T: math.sqrt(lengths[0] / T) / L for T in lengths}
    means: dict[int, list[float]] = {T: [] for T in lengths}
    variance = 0.0
    for T in lengths:
        for noise in range(repeats):
            tasks = replace(problem, noise=noise).tasks()
            course = _course(Average(Averaging()), rates[T], tasks, problem.start(), T)
            means[T].append(fmean(point.slope for point in course.points))
            variance = max(variance, *(objective.variance(p.theta) for p in course.points))
    bound = {T: 2 * delta / (eta * T) + L * eta * variance / N for T, eta in rates.items()}
    points = [(T, y) for T in lengths for y in means[T]]
    line = slope(*zip(*points, strict=True))
    share = max(y / bound[T] for T, y in points)
    part = L * rates[lengths[0]] * variance / N / bound[lengths[0]]
    name = "bound 2 Delta / (eta T) + L eta sigma^2 / N"
    return Check(
        name="stochastic",
        claim="FedSGD on batches with eta of order 1/sqrt(T): mean ||grad F||^2 <= "
        "2 Delta / (eta T) + L eta sigma^2 / N.",
        rule="every run is within the bound, and the interval of the slope reaches -1/2 or below.",
        holds="all; the bound is on an expectation, each run is held to it. sigma^2 is the largest "
        "variance at a point that any run visited, an exact sum.",
        passed=share <= 1 and line.low <= -0.5,
        numbers={
            "L": f"{L:.4f}",
            "Delta": f"{delta:.4f}",
            "sigma^2": f"{variance:.4f}",
            "eta": f"{rates[lengths[0]]:.3f} at T = {lengths[0]}, then as 1/sqrt(T)",
            "runs of each T": str(repeats),
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


def clients(seed: int) -> Check:
    """Return whether the noise floor falls like 1/N, to leading order in the rate."""
    numbers, repeats, shares = (1, 2, 4, 8, 16), 4, (0.5, 0.1)
    problem = replace(SMALL, seed=seed, batch=1, unlike=0.0)
    objective = Objective(problem.tasks().values())
    start, L = {NAME: objective.least[0]}, objective.smoothness
    rates = [share / L for share in shares]
    rounds = [round(125 / share) for share in shares]  # as many times what it takes to settle
    means: dict[float, list[tuple[int, float]]] = {rate: [] for rate in rates}
    variance = 0.0
    for rate, T in zip(rates, rounds, strict=True):
        for N, noise in product(numbers, range(repeats)):
            tasks = replace(problem, clients=N, noise=noise).tasks()
            course = _course(Average(Averaging()), rate, tasks, start, T)
            means[rate].append((N, fmean(point.slope for point in course.points)))
            variance = max(variance, *(objective.variance(p.theta) for p in course.points))
    lines = [slope(*zip(*points, strict=True)) for points in means.values()]
    relative = [
        {N: fmean(y for M, y in points if M == N) / objective.floor(rate, N) for N in numbers}
        for rate, points in means.items()
    ]
    share = max(y * N / (L * rate * variance) for rate, found in means.items() for N, y in found)
    leading = lines[-1]
    return Check(
        name="clients",
        claim="The noise term L eta sigma^2 / N falls like 1/N with the number of clients.",
        rule="every run is within the term, and at the smaller rate the interval of the slope "
        "holds -1.",
        holds="all. Clients hold the same episodes and draw their own batches, so that F is the "
        "same for every N; runs start at the minimum of F, where Delta = 0. The bound is of order "
        "1/N; the floor itself is so to leading order in eta only (Objective.floor). At the larger "
        "rate and few clients the iterates swing so wide that F is flatter there, and the floor "
        "lies below its leading order.",
        passed=share <= 1 and leading.low <= -1 <= leading.high,
        numbers={
            "L": f"{L:.4f}",
            "sigma^2": f"{variance:.4f}",
            "eta": ", ".join(f"{rate:.3f}" for rate in rates),
            "rounds": ", ".join(map(str, rounds)),
            "runs of each N and eta": str(repeats),
            "largest share of the term": f"{share:.3f}",
            "slopes": ", ".join(map(str, lines)),
            **{
                f"measured over the leading order, eta = {rate:.3f}, by N": ", ".join(
                    f"{y:.3f}" for y in over.values()
                )
                for rate, over in zip(rates, relative, strict=True)
            },
        },
        abscissa="clients N",
        marks=tuple(
            mark
            for rate, points in means.items()
            for mark in (
                *(Mark(SLOPE, f"mean, eta = {rate:.3f}", N, y, fit=True) for N, y in points),
                *(
                    Mark(SLOPE, f"{name}, eta = {rate:.3f}", N, y)
                    for N in numbers
                    for name, y in (
                        ("bound L eta sigma^2 / N", L * rate * variance / N),
                        ("theory, leading order", objective.floor(rate, N)),
                    )
                ),
            )
        ),
    )


def first_order(seed: int) -> Check:
    """Return whether first-order MAML stops at a floor of order alpha^2, and the others do not."""
    alphas = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
    small, rounds = alphas[:4], 120
    ends: dict[str, dict[float, float]] = {order: {} for order in ORDERS}
    for alpha in alphas:
        problem = replace(SMALL, seed=seed, alpha=alpha)
        tasks = _exactly(problem)
        rate = 1 / Objective(tasks.values()).smoothness
        for order in ORDERS:
            algorithm = PerFedAvg(Averaging(local_lr=1.0), alpha, order)
            course = _course(algorithm, rate, tasks, problem.start(), rounds, _settled)
            ends[order][alpha] = course.points[-1].slope
    line = slope(small, [ends["first"][alpha] for alpha in small])
    gap = max(ends[order][a] / ends["first"][a] for order in ORDERS[1:] for a in alphas)
    return Check(
        name="first_order",
        claim="First-order MAML stops where ||grad F||^2 is of order alpha^2; exact and "
        "Hessian-free gradients go below.",
        rule="the slope over alpha <= 0.08 is within 0.1 of 2, and at every alpha the others end "
        "at less than 1e-6 of the floor.",
        holds="all; full gradients, so that the floor is no noise. The floor needs curvatures "
        "that are unlike between episodes and go with the residual (slant). The support loss is "
        "quadratic: the Hessian-free quotient has no error here but rounding. alpha^2 is the "
        "leading term; alpha above 0.08 is drawn and not fitted.",
        passed=abs(line.value - 2) <= 0.1 and gap < 1e-6,
        numbers={
            "slope over alpha <= 0.08": str(line),
            "floors": ", ".join(f"{ends['first'][a]:.2e}" for a in alphas),
            "largest end of the others, as a share of the floor": f"{gap:.1e}",
        },
        abscissa="inner rate alpha",
        marks=tuple(
            Mark(SLOPE, order, alpha, max(y, 1e-34), order == "first" and alpha in small)
            for order in ORDERS
            for alpha, y in ends[order].items()
        ),
    )


def drift(seed: int) -> Check:
    """Return whether local steps leave a floor that grows with them, and SCAFFOLD none."""
    counts, rate = (1, 2, 4, 8, 16, 32), 0.1
    problem = replace(SMALL, seed=seed)
    tasks = _exactly(problem)
    last: dict[str, dict[int, Point]] = {"FedAvg": {}, "SCAFFOLD": {}}
    for K in counts:
        settings = Averaging("parameters", K, rate)
        rounds = 100 + 400 // K
        for name, algorithm in (("FedAvg", Average(settings)), ("SCAFFOLD", Scaffold(settings))):
            course = _course(algorithm, 1.0, tasks, problem.start(), rounds, _settled)
            last[name][K] = course.points[-1]
    averaged, corrected = last["FedAvg"], last["SCAFFOLD"]
    several = [K for K in counts if K > 1]
    apart = slope(counts, [averaged[K].drift for K in counts])
    floor = slope([K - 1 for K in several], [averaged[K].slope for K in several])
    gap = max(corrected[K].slope / averaged[K].slope for K in several)
    rest = max(corrected[K].drift / averaged[K].drift for K in counts)
    grows = all(
        averaged[a].drift < averaged[b].drift and averaged[a].slope < averaged[b].slope
        for a, b in pairwise(counts)
    )
    return Check(
        name="drift",
        claim="With K local steps clients drift apart, and FedAvg stops where the gradient of F "
        "is not 0; SCAFFOLD removes both.",
        rule="drift and floor grow with every K, and SCAFFOLD ends below 1e-4 of both.",
        holds="all, with full gradients; eta_l is constant. To first order the floor grows like "
        "(K - 1)^2, for small eta_l K; larger K bend it.",
        passed=grows and apart.low > 0 and gap < 1e-4 and rest < 1e-4,
        numbers={
            "eta_l": f"{rate}",
            "slope of the drift in K": str(apart),
            "slope of the floor in K - 1": str(floor),
            "floors of FedAvg": ", ".join(f"{averaged[K].slope:.1e}" for K in counts),
            "ends of SCAFFOLD": ", ".join(f"{corrected[K].slope:.1e}" for K in counts),
            "largest share of SCAFFOLD in FedAvg's floor, drift": f"{gap:.1e}, {rest:.1e}",
        },
        abscissa="local steps K",
        marks=(
            *(Mark("drift of the clients", name, K, max(p.drift, 1e-34), name == "FedAvg")
              for name, own in last.items() for K, p in own.items()),
            *(Mark(SLOPE, name, K, max(p.slope, 1e-34)) for name, own in last.items()
              for K, p in own.items()),
        ),
    )  # fmt: skip


def inner(seed: int) -> Check:
    """Return whether an inner rate of order 1/n keeps F smooth as the inner steps n grow."""
    counts, alpha, rounds = (1, 2, 4, 8, 16), 0.5, 150
    modes: dict[str, Callable[[int], float]] = {
        "rate alpha": lambda _: alpha,
        "rate alpha / n": lambda n: alpha / n,
    }
    problem = replace(SMALL, seed=seed, low=-1.0)
    eta = 1 / Objective(_exactly(replace(problem, alpha=alpha)).values()).smoothness
    marks: list[Mark] = []
    steep: dict[str, list[float]] = {mode: [] for mode in modes}
    ends: dict[str, list[float]] = {mode: [] for mode in modes}
    for mode, rate in modes.items():
        for n in counts:
            tasks = _exactly(replace(problem, alpha=rate(n), inner=n))
            objective = Objective(tasks.values())
            course = _course(Average(Averaging()), eta, tasks, problem.start(), rounds, _settled)
            steep[mode].append(objective.steepest)
            ends[mode].append(course.points[-1].slope)
            marks += [
                Mark("largest curvature of F seen", mode, n, steep[mode][-1]),
                Mark("largest curvature of F seen", f"bound L, {mode}", n, objective.smoothness),
                Mark(f"{SLOPE} at the end", mode, n, max(ends[mode][-1], 1e-34)),
            ]
    fixed, scaled = steep.values()
    limit = math.exp(2 * alpha)  # (1 + alpha / n)^(2 n) < e^(2 alpha)
    return Check(
        name="inner",
        claim="With n inner steps the smoothness of F grows exponentially in n unless the inner "
        "rate is of order 1/n; then one outer rate serves every n.",
        rule="at rate alpha the curvature at n = 16 is above 100 times that at n = 1 and the last "
        "run does not settle (1e-3 or more); at alpha / n it stays below e^(2 alpha) and every "
        "run ends below 1e-6.",
        holds="support losses with curvature of both signs, h in [-1, 1], without which a "
        "constant rate contracts; L is finite at every n, but not of one size.",
        passed=fixed[-1] > 100 * fixed[0]
        and ends["rate alpha"][-1] >= 1e-3
        and max(scaled) <= limit
        and max(ends["rate alpha / n"]) < 1e-6,
        numbers={
            "alpha, eta": f"{alpha}, {eta:.3f} = 1/L at n = 1",
            "curvature, rate alpha": ", ".join(f"{y:.2g}" for y in fixed),
            "curvature, rate alpha / n": ", ".join(f"{y:.2g}" for y in scaled),
            "ends, rate alpha": ", ".join(f"{y:.1e}" for y in ends["rate alpha"]),
            "ends, rate alpha / n": ", ".join(f"{y:.1e}" for y in ends["rate alpha / n"]),
        },
        abscissa="inner steps n",
        marks=tuple(marks),
    )
