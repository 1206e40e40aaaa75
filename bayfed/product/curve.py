r"""A law's p-values as a table that a graph can look up.

The laws that thresholds rest on are step functions, or need the incomplete beta function, which no
exchange format has. Both are sampled here from the very law: steps at its scores, and a continuous
law as :math:`\ln p` at points that are added until a straight line between any two is right to
``ERROR``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bayfed.methods import Scores
from bayfed.product.thresholds import NullLaw, RankLaw

ERROR = 2e-6
"""Largest error of ln p, and so relative error of p, halfway between two points."""
SMALLEST = 1e-30
"""P-value from which on a law is not followed; a float32 knows no much smaller one."""
WIDEST = 60
"""Doublings of the scores' spread until which it is."""
ROUNDS = 40

Floats = NDArray[np.float64]
Point = Callable[[Floats], tuple[Floats, Floats]]
"""Parameters -> scores and ln p."""


class Curve(NamedTuple):
    """P-values of scores.

    Attributes:
        scores: ``(n,)`` float32, ascending.
        logs: ln p, ``(n,)`` of a continuous law at these scores, ``(n + 1,)`` of steps: above as
            many of them.
        steps: Whether p changes at the scores alone.
    """

    scores: Tensor
    logs: Tensor
    steps: bool

    def p_value(self, score: Tensor) -> Tensor:
        """Return the p-values ``(q,)`` of scores ``(q,)``; traceable.

        >>> curve = Curve(torch.tensor([1.0, 2.0]), torch.tensor([0.0, -1.0]), False)
        >>> [round(p, 4) for p in curve.p_value(torch.tensor([0.0, 1.5, 9.0])).tolist()]
        [1.0, 0.6065, 0.3679]
        """
        below = (self.scores < score[:, None]).sum(-1)
        if self.steps:
            return self.logs[below].exp()
        left = (below - 1).clamp(0, len(self.scores) - 2)
        start, end = self.scores[left], self.scores[left + 1]
        share = ((score - start) / (end - start)).clamp(0, 1)
        return (self.logs[left] + share * (self.logs[left + 1] - self.logs[left])).exp()


def curve_of(law: NullLaw, own: Floats) -> Curve | None:
    """Return the table of a law that depends on scores alone; None where it has no p-values.

    Args:
        law: Of good parts' scores.
        own: ``(k,)`` scores of the support, which tell where the law lies.
    """
    if isinstance(law, RankLaw):
        ranks = torch.from_numpy(np.sort(law.scores))
        number = len(ranks) + 1
        logs = (torch.arange(number, 0, -1).double() / number).log()
        return Curve(ranks.float(), logs.float(), steps=True)

    def point(scores: Floats) -> tuple[Floats, Floats]:
        found = law.p_value(Scores(torch.from_numpy(scores), None))
        return scores, np.log(np.maximum(np.asarray(found), SMALLEST))

    if law.p_value(Scores(torch.zeros(1).double(), None)) is None:
        return None
    middle, spread = float(np.mean(own)), float(np.std(own)) or 1.0
    steps = spread * 2.0 ** np.arange(WIDEST)
    return sampled(point, np.concatenate([middle - steps[::-1], [middle], middle + steps]))


def sampled(point: Point, start: Floats) -> Curve:
    """Return the table of a continuous law.

    Args:
        point: Gives scores, ascending with the parameter, and ln p.
        start: Parameters to begin with, ascending; from the last ones that make a difference on,
            p is constant.
    """
    scores, logs = point(start)
    change = np.flatnonzero(np.abs(np.diff(logs)) > ERROR)
    ends = slice(max(0, change.min(initial=0) - 1), change.max(initial=0) + 2)
    places, scores, logs = start[ends], scores[ends], logs[ends]
    for _ in range(ROUNDS):
        between = (places[:-1] + places[1:]) / 2
        there, found = point(between)
        share = (there - scores[:-1]) / np.maximum(np.diff(scores), np.finfo(float).tiny)
        error = np.abs(found - logs[:-1] - share * np.diff(logs))
        new = (error > ERROR) & (np.diff(scores.astype(np.float32)) > 0)
        if not new.any():
            break
        at = np.flatnonzero(new) + 1
        places, scores, logs = (
            np.insert(old, at, more[new])
            for old, more in ((places, between), (scores, there), (logs, found))
        )
    distinct = np.append(True, np.diff(scores.astype(np.float32)) > 0)
    return Curve(
        torch.from_numpy(scores[distinct]).float(), torch.from_numpy(logs[distinct]).float(), False
    )
