"""How often the detector is wrong, as far as people have looked."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayfed.inference.inspection import Decision
from bayfed.seeds import stream
from bayfed.serve.records import Verdict

LEVEL = 0.95
_DRAWS = 20_000
_PRIOR = 0.5
"""Jeffreys' prior of each decision and verdict."""

Tallies = Mapping[tuple[str, str], int]


class Rate(NamedTuple):
    """A rate with its credible limits, and the judged parts behind it.

    Attributes:
        wrong: Judged parts on which the detector was wrong.
        of: Judged parts that are truly good (false alarms) or defective (escapes).
        checked: Judged parts of the decision that can be wrong so; at 0 the median is the prior.
    """

    median: float
    low: float
    high: float
    wrong: int
    of: int
    checked: int


class Rates(NamedTuple):
    """Both ways of being wrong; None where no part was judged that could show it."""

    false_alarms: Rate | None
    escapes: Rate | None


def rates(tallies: Tallies) -> Rates:
    r"""Return the false-alarm rate and the escape rate of all parts, judged or not.

    People look at doubtful parts, so rates among what they judged would be far too high. The
    parts are weighted back by decision: with the share :math:`\pi_d` of parts that were
    decided :math:`d`, and the share :math:`q_d` of good ones among those,

    .. math:: \mathrm{false\ alarms} =
              \frac{\pi_{defect}\, q_{defect}}{\sum_d \pi_d q_d}, \qquad
              \mathrm{escapes} =
              \frac{\pi_{ok} (1 - q_{ok})}{\sum_d \pi_d (1 - q_d)},

    .. math:: \pi \sim \mathrm{Dirichlet}(n_d + 1), \qquad
              q_d \sim \mathrm{Beta}(g_d + \tfrac12, b_d + \tfrac12)

    for :math:`n_d` parts, of which :math:`g_d` were judged good and :math:`b_d` defective: the
    posterior under Jeffreys' prior of the six cells. A part sent to review is neither a false
    alarm nor an escape. Judged parts are taken to be like the others of their decision; as
    long as nobody checks parts that were called ok, the limits of the escapes stay wide.

    Args:
        tallies: Number of parts by decision and verdict ('' if nobody judged them).

    >>> found = rates({("defect", "good"): 2, ("defect", ""): 6, ("ok", "good"): 90})
    >>> found.false_alarms.low < 0.08 < found.false_alarms.high
    True
    """
    return _rates(tuple(sorted(tallies.items())))


@lru_cache(maxsize=8)
def _rates(items: tuple[tuple[tuple[str, str], int], ...]) -> Rates:
    tallies = dict(items)
    good, bad = (
        np.array([tallies.get((decision, verdict), 0) for decision in Decision], np.float64)
        for verdict in (Verdict.GOOD, Verdict.DEFECT)
    )
    unjudged = np.array([tallies.get((decision, ""), 0) for decision in Decision])
    random = stream(0, "rates", repr(items))
    shares = random.dirichlet(good + bad + unjudged + 2 * _PRIOR, _DRAWS)
    goodness = random.beta(good + _PRIOR, bad + _PRIOR, (_DRAWS, len(Decision)))
    decisions = list(Decision)
    return Rates(
        _rate(shares * goodness, good, good + bad, decisions.index(Decision.DEFECT)),
        _rate(shares * (1.0 - goodness), bad, good + bad, decisions.index(Decision.OK)),
    )


def _rate(
    cells: NDArray[np.float64],
    judged: NDArray[np.float64],
    checked: NDArray[np.float64],
    wrong: int,
) -> Rate | None:
    if not judged.any():
        return None
    draws = cells[:, wrong] / cells.sum(axis=1)
    tail = (1.0 - LEVEL) / 2.0
    low, median, high = np.quantile(draws, (tail, 0.5, 1.0 - tail))
    counts = int(judged[wrong]), int(judged.sum()), int(checked[wrong])
    return Rate(float(median), float(low), float(high), *counts)
