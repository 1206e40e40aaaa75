"""Check of the inner rate, on the smooth problem alone: it needs curvatures of both signs.

Source: Ji et al., Theoretical Convergence of Multi-Step MAML, 2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from experiments.study.known import Known
from experiments.study.outcome import Check, Mark
from experiments.study.subject import LEAST, SLOPE, course, fedsgd, settled


def inner(subject: Known) -> Check:
    """Return whether an inner rate of order 1/n keeps F smooth as the inner steps n grow."""
    of = subject.rules.inner
    counts, alpha, rounds = of.counts, of.alpha, of.rounds
    modes: dict[str, Callable[[int], float]] = {
        "rate alpha": lambda _: alpha,
        "rate alpha / n": lambda n: alpha / n,
    }
    problem = replace(subject.problem, low=-1.0)
    eta = 1 / Known(replace(problem, alpha=alpha)).objective.smoothness
    marks: list[Mark] = []
    steep: dict[str, list[float]] = {mode: [] for mode in modes}
    ends: dict[str, list[float]] = {mode: [] for mode in modes}
    for mode, rate in modes.items():
        for n in counts:
            one = Known(replace(problem, alpha=rate(n), inner=n))
            objective, start, tasks = one.objective, one.start(), one.exactly()
            found = course(one, fedsgd(one), eta, tasks, start, rounds, settled)
            steep[mode].append(objective.steepest)
            ends[mode].append(found.points[-1].slope)
            marks += [
                Mark("largest curvature of F seen", mode, n, steep[mode][-1]),
                Mark("largest curvature of F seen", f"bound L, {mode}", n, objective.smoothness),
                Mark(f"{SLOPE} at the end", mode, n, max(ends[mode][-1], LEAST)),
            ]
    fixed, scaled = steep.values()
    limit = math.exp(2 * alpha)  # (1 + alpha / n)^(2 n) < e^(2 alpha)
    return Check(
        name="inner",
        claim="With n inner steps the smoothness of F grows exponentially in n unless the inner "
        "rate is of order 1/n; then one outer rate serves every n.",
        rule=f"at rate alpha the curvature at n = {counts[-1]} is above {of.factor:g} times that "
        f"at n = 1 and the last run ends at {of.unsettled:.0e} or above; at alpha / n it stays "
        f"below e^(2 alpha) and every run ends below {of.settled:.0e}.",
        holds=subject.holds["inner"],
        passed=fixed[-1] > of.factor * fixed[0]
        and ends["rate alpha"][-1] >= of.unsettled
        and max(scaled) <= limit
        and max(ends["rate alpha / n"]) < of.settled,
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
