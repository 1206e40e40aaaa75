"""Checks of floors: where a biased algorithm stops although nothing is noisy.

Sources: Fallah et al., Personalized Federated Learning with Theoretical Guarantees, 2020;
Karimireddy et al., SCAFFOLD, 2020.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise, product

from experiments.study.loop import Point
from experiments.study.outcome import Check, Mark
from experiments.study.slopes import slope
from experiments.study.subject import (
    LEAST,
    SLOPE,
    UNBOUNDED,
    Subject,
    course,
    settled,
)
from strategies.algorithm import Algorithm
from strategies.averaging import Average, Averaging
from strategies.perfedavg import Order, PerFedAvg
from strategies.scaffold import Scaffold

ORDERS: tuple[Order, ...] = ("first", "hessian-free", "exact")


def first_order(subject: Subject) -> Check:
    """Return whether first-order MAML stops at a floor of order alpha^2, and the others do not."""
    of, every = subject.rules.first_order, subject.rules.every
    alphas = [share * subject.unit for share in of.alphas]
    small, start = alphas[: of.fitted], subject.approach()
    check = partial(
        Check,
        name="first_order",
        claim="First-order MAML stops where ||grad F||^2 is of order alpha^2; exact and "
        "Hessian-free gradients go below.",
        rule=f"the slope over alpha <= {small[-1]:.2g} is within {of.within:g} of {of.slope:g}, "
        f"and at every alpha the others end at less than {of.gap:.0e} of the floor.",
        holds=subject.holds["first_order"],
        abscissa="inner rate alpha",
    )
    if not subject.unit:
        return check(passed=None, numbers=UNBOUNDED, marks=())
    ends: dict[Order, dict[float, float]] = {order: {} for order in ORDERS}
    whole = True
    for alpha in alphas:
        adapted = subject.adapted(alpha)
        rate = 1 / adapted.smoothness([start])
        for order in ORDERS:
            algorithm = PerFedAvg(Averaging(local_lr=1.0, rates=subject.rates), alpha, order)
            tasks = adapted.exactly()
            found = course(adapted, algorithm, rate, tasks, start, of.rounds, settled, every)
            whole &= not found.diverged
            ends[order][alpha] = found.points[-1].slope
    line = slope(small, [ends["first"][alpha] for alpha in small])
    gap = max(ends[order][a] / ends["first"][a] for order in ORDERS[1:] for a in alphas)
    return check(
        passed=whole and abs(line.value - of.slope) <= of.within and gap < of.gap,
        numbers={
            f"slope over alpha <= {small[-1]:.2g}": str(line),
            "alpha": ", ".join(f"{a:.2g}" for a in alphas),
            "rounds": str(of.rounds),
            **{
                f"ends, {order}": ", ".join(f"{y:.2e}" for y in own.values())
                for order, own in ends.items()
            },
            "largest end of the others, as a share of the floor": f"{gap:.1e}",
        },
        marks=tuple(
            Mark(SLOPE, order, alpha, max(y, LEAST), order == "first" and alpha in small)
            for order in ORDERS
            for alpha, y in ends[order].items()
        ),
    )


def drift(subject: Subject) -> Check:
    """Return whether local steps leave a floor that grows with them, and SCAFFOLD none."""
    of, every, whole = subject.rules.drift, subject.rules.every, True
    check = partial(
        Check,
        name="drift",
        claim="With K local steps clients drift apart, and FedAvg stops where the gradient of F "
        "is not 0; SCAFFOLD removes both.",
        rule=f"drift and floor grow with every K, and SCAFFOLD ends below {of.removed:.0e} of "
        "both.",
        holds=subject.holds["drift"],
        abscissa="local steps K",
    )
    if not subject.unit:
        return check(passed=None, numbers=UNBOUNDED, marks=())
    start, tasks = subject.approach(), subject.exactly()
    rate, (fewest, more) = of.rate * subject.unit, of.rounds
    last: dict[str, dict[int, Point]] = {"FedAvg": {}, "SCAFFOLD": {}}
    for K, name in product(of.counts, last):
        settings = Averaging("parameters", K, rate, rates=subject.rates)
        algorithm: Algorithm = Average(settings) if name == "FedAvg" else Scaffold(settings)
        rounds = fewest + more // K
        found = course(subject, algorithm, 1.0, tasks, start, rounds, settled, every)
        whole &= not found.diverged
        last[name][K] = found.points[-1]
    averaged, corrected = last["FedAvg"], last["SCAFFOLD"]
    several = of.counts[1:]
    apart = slope(of.counts, [averaged[K].drift for K in of.counts])
    floor = slope([K - 1 for K in several], [averaged[K].slope for K in several])
    gap = max(corrected[K].slope / averaged[K].slope for K in several)
    rest = max(corrected[K].drift / averaged[K].drift for K in of.counts)
    grows = all(
        averaged[a].drift < averaged[b].drift and averaged[a].slope < averaged[b].slope
        for a, b in pairwise(of.counts)
    )
    return check(
        passed=whole and grows and apart.low > 0 and gap < of.removed and rest < of.removed,
        numbers={
            "eta_l, unit": f"{rate:.3g}, {subject.unit:.3g}",
            "K": ", ".join(map(str, of.counts)),
            "rounds": ", ".join(str(fewest + more // K) for K in of.counts),
            "slope of the drift in K": str(apart),
            "slope of the floor in K - 1": str(floor),
            **{
                f"drift, ||grad F||^2 of {name}": "; ".join(
                    f"{p.drift:.1e}, {p.slope:.1e}" for p in own.values()
                )
                for name, own in last.items()
            },
            "largest share of SCAFFOLD in FedAvg's floor, drift": f"{gap:.1e}, {rest:.1e}",
        },
        marks=(
            *(Mark("drift of the clients", name, K, max(p.drift, LEAST), name == "FedAvg")
              for name, own in last.items() for K, p in own.items()),
            *(Mark(SLOPE, name, K, max(p.slope, LEAST)) for name, own in last.items()
              for K, p in own.items()),
        ),
    )  # fmt: skip
