"""What can be said of a study, each in a sentence with its numbers, and no more than that."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bayfed.metrics.intervals import Interval
from experiments.study.curves import mean_slope, rate, rate_text
from experiments.study.differences import Difference, against
from experiments.study.table import Point, Run, Site, by, mean_of_known
from server import outcome

ROOT = -0.5
"""The exponent of 1/sqrt(rounds)."""


def findings(runs: Sequence[Run], curves: Sequence[Point], sites: Sequence[Site]) -> list[str]:
    """Return what can be said; the first strategy is the reference."""
    reference = runs[0].strategy if runs else ""
    pairs, lines = against(sites, reference), list[str]()
    for heterogeneity, own in by(runs, "heterogeneity").items():
        of = {s: pair for (s, h), pair in pairs.items() if h == heterogeneity}
        lines.append(f"**{heterogeneity}**: {_order(own, of, reference)}")
    if pairs:
        lines.append(_tests(list(pairs.values())))
    return lines + _rates(curves) + _unlike(runs) + _unhappy(runs)


def _order(runs: Sequence[Run], pairs: dict[str, Difference], reference: str) -> str:
    """Return who ends highest under a heterogeneity, and who is told from the reference.

    Who has lost a seed is not ranked: a mean over those that went well says nothing of the others.
    """
    groups = by(runs, "strategy")
    whole = {
        s: mean_of_known([r.auroc for r in rows])
        for s, rows in groups.items()
        if all(r.status == outcome.COMPLETED for r in rows)
    }
    ranked = {s: auroc for s, auroc in whole.items() if not math.isnan(auroc)}
    if not ranked:
        return "no strategy has ended well with every seed."
    best = max(ranked, key=lambda s: ranked[s])
    text = f"{best} has the highest mean AUROC, {ranked[best]:.4f}"
    told = [f"{s} {p}" for s, p in pairs.items() if s in ranked and p.is_told]
    rest = [s for s, p in pairs.items() if s in ranked and not p.is_told]
    text += f"; told from {reference}: {', '.join(told) or 'none'}"
    text += f"; not told from it: {', '.join(rest)}" if rest else ""
    lost = [s for s in groups if s not in ranked]
    return text + (f"; not ranked, for a seed is missing: {', '.join(lost)}." if lost else ".")


def _tests(pairs: Sequence[Difference]) -> str:
    return (
        "A difference is told from none where two paired 95 % intervals by Student's t exclude 0: "
        f"over sites ({_numbers([p.sites.n for p in pairs])}) and over seeds "
        f"({_numbers([p.seeds.n for p in pairs])}), in this order in brackets. Of "
        f"{len(pairs)} differences, without a correction for their number."
    )


def _numbers(found: Sequence[int]) -> str:
    """Return how many units there are.

    >>> _numbers([4, 3, 4]), _numbers([2])
    ('n = 3 to 4', 'n = 2')
    """
    return "n = " + " to ".join(map(str, sorted({min(found), max(found)})))


def _rates(curves: Sequence[Point]) -> list[str]:
    """Return how fast the mean of the squared gradient falls, beside 1/sqrt(rounds)."""
    found = {
        f"{s} under {h}": b
        for (s, h), rows in by(curves, "strategy", "heterogeneity").items()
        if (b := rate(rows, mean_slope)) is not None
    }
    if not found:
        return []
    kinds: dict[str, list[str]] = {"faster": [], "slower": [], "open": []}
    for name, b in found.items():
        kinds[_beside(b)].append(f"{name} {rate_text(b)}")
    text = (
        "The mean of ||grad F||\u00b2 up to round t falls like t^b, b fitted to each seed and its "
        "95 % interval over seeds. The theorem's 1/sqrt(t) is b = -0.5: "
    )
    words = {"faster": "below it", "slower": "above it (slower)", "open": "not told from it"}
    parts = [f"{words[k]} {len(v)} of {len(found)}" for k, v in kinds.items()]
    named = [f"{words[k]}: {', '.join(kinds[k])}" for k in ("faster", "open") if kinds[k]]
    return [f"{text}{'; '.join(parts)}." + "".join(f" {part}." for part in map(_capital, named))]


def _beside(b: Interval) -> str:
    if b.high < ROOT:
        return "faster"
    return "slower" if b.low > ROOT else "open"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _unlike(runs: Sequence[Run]) -> list[str]:
    lines = []
    what = {
        "dissimilarity": "Dissimilarity of the clients' gradients at round 0",
        "apart": "Share of the variance of the clients' normals that lies between them",
    }
    for name, words in what.items():
        measured = {
            h: mean_of_known([getattr(run, name) for run in rows])
            for h, rows in by(runs, "heterogeneity").items()
        }
        known = {h: value for h, value in measured.items() if not math.isnan(value)}
        if known:
            order = sorted(known, key=lambda h: known[h])
            lines.append(f"{words}: {', '.join(f'{h} {known[h]:.2f}' for h in order)}.")
    return lines


def _unhappy(runs: Sequence[Run]) -> list[str]:
    """Return which runs did not end well, and the reason of the first of each kind."""
    lines = []
    for (strategy, heterogeneity), own in by(runs, "strategy", "heterogeneity").items():
        for status, bad in by([run for run in own if run.reason], "status").items():
            seeds = ", ".join(str(run.seed) for run in bad)
            lines.append(
                f"**{strategy} under {heterogeneity}** {status} with {len(bad)} of {len(own)} "
                f"seeds ({seeds}): {bad[0].reason}."
            )
    return lines
