"""The tables of a bench, as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bayfed.evaluation.bench.compare import (
    AUROC,
    Competitor,
    Panel,
    over_seeds,
    paired,
    site_means,
)
from bayfed.evaluation.report_tables import CALIBRATION, EMPTY, HEADINGS, PlainTable, number
from bayfed.evaluation.summary import CONTROL
from bayfed.metrics.intervals import Interval

METRICS = ("image_auprc", "f1_max", "pixel_auroc", "aupro", "fpr_at_fnr10")
NOISE_METRICS = ("noise_reached", "image_auroc", "reject_precision", "reject_recall")
COSTS = {"model_bytes": 1e-3, "fit_seconds": 1e3, "score_seconds": 1e3}
_HEADINGS = HEADINGS | {
    "fpr_at_fnr10": "FPR at FNR 10 %",
    "fpr_at_threshold": "FPR at the threshold",
    "fnr_at_threshold": "FNR at the threshold",
    "noise_reached": "Noise reached",
    "reject_precision": "Precision of the rejection",
    "reject_recall": "Recall of the rejection",
    "model_bytes": "Model, kB",
    "fit_seconds": "Fit, ms",
    "score_seconds": "Score an image, ms",
}


def signed(value: float) -> str:
    """Return a difference with its sign, a dash where there is none.

    >>> signed(0.0123), signed(float("nan"))
    ('+0.012', '–')
    """
    return EMPTY if math.isnan(value) else f"{value:+.3f}"


def limits(interval: Interval, sign: bool = False) -> str:
    """Return both limits, a dash where one unit gives no interval."""
    if math.isnan(interval.low):
        return EMPTY
    show = signed if sign else number
    return f"{show(interval.low)} to {show(interval.high)}"


def main_table(panel: Panel, reference: str) -> PlainTable:
    """Return AUROC of each competitor, against its control and against ``reference``."""
    against = panel.find(reference)
    headings = ["system", "arm", "sites", "image AUROC", "95 %, seeds"]
    headings += ["minus control", "95 %, sites"]
    headings += [f"minus {reference}", "95 %, sites "] if against else []
    body = []
    for one in panel.competitors:
        mean = over_seeds(one)
        cells = [one.system, one.arm, str(len(site_means(one))), number(mean.mean), limits(mean)]
        control = panel.find(one.system) if one.arm != CONTROL else None
        cells += _difference(control, one)
        if against:
            cells += _difference(against if against is not one else None, one)
        body.append(cells)
    return PlainTable(headings, body)


def _difference(before: Competitor | None, after: Competitor) -> list[str]:
    if before is None:
        return [EMPTY, EMPTY]
    difference = paired(before, after)
    return [signed(difference.mean), limits(difference, sign=True)]


def metric_table(panel: Panel, metrics: Sequence[str] = METRICS) -> PlainTable | None:
    """Return the mean over sites of those ``metrics`` that any competitor has."""
    shown = [m for m in metrics if any(site_means(one, m) for one in panel.competitors)]
    if not shown:
        return None
    body = [
        [one.system, one.arm, *(number(over_seeds(one, metric).mean) for metric in shown)]
        for one in panel.competitors
    ]
    return PlainTable(["system", "arm", *(_HEADINGS[metric] for metric in shown)], body)


def calibration_table(panel: Panel, fpr: float) -> PlainTable | None:
    """Return the calibration of each competitor below the nominal values."""
    table = metric_table(panel, CALIBRATION)
    if table is None:
        return None
    nominal = {"cover90": 0.9, "cover95": 0.95, "cover99": 0.99, "ece": 0.0, "ks": 0.0,
               "fpr_at_threshold": fpr}  # fmt: skip
    shown = {_HEADINGS[key]: number(value) for key, value in nominal.items()}
    first = ["nominal", "", *(shown.get(heading, EMPTY) for heading in table.headings[2:])]
    return PlainTable(table.headings, [first, *table.body])


def cost_table(panel: Panel) -> PlainTable | None:
    """Return size and times of a fitted detector, beside the backbone."""
    shown = [m for m in COSTS if any(site_means(one, m) for one in panel.competitors)]
    if not shown:
        return None
    body = []
    for one in panel.competitors:
        means = {metric: over_seeds(one, metric).mean * COSTS[metric] for metric in shown}
        body.append([one.system, one.arm, *(number(value, 1) for value in means.values())])
    return PlainTable(["system", "arm", *(_HEADINGS[metric] for metric in shown)], body)


def noise_table(panels: Sequence[Panel]) -> PlainTable | None:
    """Return AUROC, precision and recall of a refinement by label noise; None without any noise.

    A mean is over the sites where something was rejected, or something was to be rejected.

    Args:
        panels: Differ in their noise alone.
    """
    if not any(panel.noise for panel in panels):
        return None
    body = []
    ordered = sorted(panels, key=lambda panel: panel.noise or 0.0)
    names = dict.fromkeys((one.system, one.arm) for p in ordered for one in p.competitors)
    for name in names:
        for panel in ordered:
            one = panel.find(*name)
            if one is not None:
                means = [number(over_seeds(one, metric).mean) for metric in NOISE_METRICS]
                body.append([*name, f"{panel.noise or 0.0:g}", *means])
    headings = ["system", "arm", "noise", *(_HEADINGS[metric] for metric in NOISE_METRICS)]
    return PlainTable(headings, body)


def sites_table(panel: Panel, metric: str = AUROC) -> PlainTable:
    """Return a row a competitor and a column a site."""
    sites = panel.sites
    body = []
    for one in panel.competitors:
        means = site_means(one, metric)
        body.append([one.system, one.arm, *(number(means.get(site)) for site in sites)])
    return PlainTable(["system", "arm", *sites], body)


def pairs_table(
    panel: Panel, pairs: Sequence[tuple[tuple[str, str], tuple[str, str]]]
) -> PlainTable | None:
    """Return the asked comparisons: AUROC, and false positives where as many defects are missed.

    Args:
        panel: Where both must take part.
        pairs: ((system, arm), (system, arm)), the first compared with the second.
    """
    body = []
    for first, second in pairs:
        one, other = panel.find(*first), panel.find(*second)
        if one is None or other is None:
            continue
        for metric in (AUROC, "fpr_at_fnr10"):
            body.append([f"{one.title} against {other.title}", *_pair(one, other, metric)])
    headings = ["comparison", "metric", "first", "second", "difference", "95 %, sites", "relative"]
    return PlainTable([*headings, "sites"], body) if body else None


def _pair(one: Competitor, other: Competitor, metric: str) -> list[str]:
    difference = paired(other, one, metric)
    means = [over_seeds(side, metric).mean for side in (one, other)]
    relative = EMPTY if not means[1] else f"{difference.mean / means[1]:+.0%}"
    shown = [number(mean) for mean in means]
    ends = [signed(difference.mean), limits(difference, sign=True), relative, str(difference.n)]
    return [_HEADINGS[metric], *shown, *ends]


def markdown(table: PlainTable) -> str:
    r"""Return ``table`` in Markdown, numbers aligned to the right.

    >>> print(markdown(PlainTable(["a", "b"], [["x|y", "1"]])))
    | a | b |
    |---|--:|
    | x\|y | 1 |
    """
    texts = sum(_is_text(table, column) for column in range(len(table.headings)))
    rule = ["---"] * texts + ["--:"] * (len(table.headings) - texts)
    lines = [_line(table.headings), f"|{'|'.join(rule)}|", *map(_line, table.body)]
    return "\n".join(lines)


_TEXTS = frozenset({"system", "arm", "comparison", "metric"})


def _is_text(table: PlainTable, column: int) -> bool:
    return column == 0 or table.headings[column] in _TEXTS


def _line(cells: Sequence[str] | Mapping[str, str]) -> str:
    escaped = (cell.strip().replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
