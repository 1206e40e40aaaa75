"""A search for the least value of an objective."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from experiments.study.loop import Exact
from experiments.study.rules import EVALUATIONS
from strategies.server_optimizers import moved_of
from strategies.task import Params


def descend_far(exact: Exact, theta: Params, rates: Mapping[str, float]) -> Params:
    """Return the point of least F that L-BFGS has met; it starts anew where a search fails.

    Args:
        exact: F.
        theta: Where it starts.
        rates: What has 0 stays.

    Source: Liu and Nocedal, On the Limited Memory BFGS Method, 1989.

    >>> from experiments.study.smooth import Objective, Problem
    >>> problem = Problem(clients=2, episodes=6, dimensions=2)
    >>> exact = Objective(problem.tasks().values())
    >>> abs(exact.value(descend_far(exact, problem.start(), {})) - exact.least[1]) < 1e-9
    True
    """
    at = {n: value.clone().requires_grad_() for n, value in moved_of(theta, rates).items()}
    best, calls = (exact.value(theta), theta), 0

    def evaluate() -> float:
        nonlocal best, calls
        here = theta | {name: value.detach().clone() for name, value in at.items()}
        value, slope = exact.value(here), exact.gradient(here)
        for name, leaf in at.items():
            leaf.grad = slope[name]
        calls += 1
        best = min(best, (value, here), key=lambda pair: pair[0])
        return value

    while calls < EVALUATIONS:
        optimizer = torch.optim.LBFGS(
            list(at.values()), max_iter=EVALUATIONS, max_eval=EVALUATIONS - calls,
            tolerance_grad=1e-10, tolerance_change=0, history_size=20,
            line_search_fn="strong_wolfe",
        )  # fmt: skip
        before = calls
        optimizer.step(evaluate)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for name, leaf in at.items():
                leaf.copy_(best[1][name])
        if calls <= before + 1:
            break
    return best[1]
