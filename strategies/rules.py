"""How many updates become one: the mean, and rules that bear hostile clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bayfed.config.updates import Defence
from bayfed.errors import FederationError
from strategies.task import Params

Rule = Callable[[Sequence[Params], Sequence[float]], Params]
"""From the clients' updates and weights to one update."""


def rule_of(defence: Defence) -> Rule:
    """Return the rule that ``defence`` asks for.

    >>> updates = [{"w": torch.tensor([x])} for x in (1.0, 2.0, 90.0)]
    >>> rule_of(Defence(rule="median"))(updates, [1, 1, 1])
    {'w': tensor([2.])}
    """
    hostile = defence.hostile
    rules: dict[str, Rule] = {
        "mean": weighted_mean,
        "median": lambda updates, _: _by_coordinate(updates, lambda v: np.median(v, axis=0)),
        "trimmed_mean": lambda updates, _: trimmed_mean(updates, hostile),
        "multi_krum": lambda updates, weights: multi_krum(updates, weights, hostile),
    }
    return rules[defence.rule]


def fewest(defence: Defence) -> int:
    """Return the least number of clients in a round with which the rule keeps its promise.

    >>> [fewest(Defence(rule=rule, hostile=2)) for rule in ("median", "trimmed_mean", "multi_krum")]
    [1, 5, 7]
    """
    return {
        "trimmed_mean": 2 * defence.hostile + 1,
        "multi_krum": 2 * defence.hostile + 3,
    }.get(defence.rule, 1)


def weighted_mean(updates: Sequence[Params], weights: Sequence[float]) -> Params:
    """Return sum_c n_c g_c / sum_c n_c, added in the order given and in float64.

    >>> weighted_mean([{"w": torch.tensor([0.0])}, {"w": torch.tensor([4.0])}], [3, 1])
    {'w': tensor([1.])}
    """
    total = float(sum(weights))
    mean: Params = {}
    for name, first in updates[0].items():
        terms = (w * update[name].double() for update, w in zip(updates, weights, strict=True))
        mean[name] = (sum(terms, torch.zeros_like(first, dtype=torch.float64)) / total).to(first)
    return mean


def trimmed_mean(updates: Sequence[Params], hostile: int) -> Params:
    """Return, coordinate by coordinate, the mean without the ``hostile`` lowest and highest.

    Source: Yin et al., Byzantine-Robust Distributed Learning, 2018, Definition 2.

    Raises:
        FederationError: nothing is left.

    >>> trimmed_mean([{"w": torch.tensor([x])} for x in (-50.0, 1.0, 3.0, 90.0)], 1)
    {'w': tensor([2.])}
    """
    if len(updates) <= 2 * hostile:
        raise FederationError(
            f"{len(updates)} updates: {2 * hostile + 1} are needed to trim {hostile}"
        )
    kept = slice(hostile, len(updates) - hostile)
    return _by_coordinate(updates, lambda values: np.sort(values, axis=0)[kept].mean(axis=0))


def multi_krum(updates: Sequence[Params], weights: Sequence[float], hostile: int) -> Params:
    r"""Return the mean of the n - f updates that lie closest to their neighbours.

    .. math:: s_c = \sum_{c' \in N_c} \lVert g_c - g_{c'} \rVert^2

    The n - f updates with the least :math:`s_c` are averaged; :math:`N_c` are the n - f - 2 updates
    closest to :math:`g_c`, n the number of updates and f that of hostile clients. With fewer than
    2 f + 2 updates f equal ones would have no other neighbours, and be chosen.

    Source: Blanchard et al., Machine Learning with Adversaries, 2017, section 4, where the promise
    is for n > 2 f + 2; a round in which others were refused has fewer.

    Raises:
        FederationError: there are fewer than 2 f + 2 updates.
    """
    number, needed = len(updates), 2 * hostile + 2
    if number < needed:
        raise FederationError(f"{number} updates: {needed} are needed for Krum against {hostile}")
    flat = torch.stack([torch.cat([t.double().flatten() for t in u.values()]) for u in updates])
    apart = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist").square()
    nearest = apart.sort(dim=1).values[:, 1 : number - hostile - 1]  # the first is itself
    chosen = nearest.sum(dim=1).argsort(stable=True)[: number - hostile].sort().values.tolist()
    return weighted_mean([updates[c] for c in chosen], [weights[c] for c in chosen])


def _by_coordinate(
    updates: Sequence[Params], of: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> Params:
    result: Params = {}
    for name, first in updates[0].items():
        values = np.stack([update[name].double().numpy() for update in updates])
        result[name] = torch.from_numpy(np.asarray(of(values))).reshape(first.shape).to(first)
    return result
