"""What a study has found, in words, from its tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from bayfed.evaluation.atomic import write_atomic
from bayfed.evaluation.summary import interval_text
from bayfed.metrics.intervals import Interval, paired_interval
from experiments.study.plots import FITTED, NAMES, mean_slope
from experiments.study.slopes import Slope, slope
from experiments.study.table import Point, Run, Site, by, mean_of_known
from server import outcome


def write_summary(folder: Path, name: str) -> Path:
    """Write the summary of the study in ``folder``, and return its file.

    Raises:
        DataError: a table is missing or damaged.
    """
    runs, curves, sites = Run.read(folder), Point.read(folder), Site.read(folder)
    lines = [f"# {name}", "", *_counts(runs), ""]
    lines += ["## Findings", "", *(f"- {text}" for text in findings(runs, curves, sites)), ""]
    lines += ["## Runs", "", *_table(runs, curves, sites), ""]
    lines += [f"![{n}]({n}.png)\n" for n in NAMES if (folder / f"{n}.png").exists()]
    lines += [
        "`study.csv` has a row for each run, `curves.csv` for each round, `sites.csv` for each "
        "site; `python -m experiments.study.figures DIR` draws the figures anew from them.",
    ]
    path = folder / "summary.md"
    write_atomic(path, ("\n".join(lines) + "\n").encode())
    return path


def fitted(curves: Sequence[Point]) -> Slope | None:
    """Return the slope of the running mean of the squared gradient against rounds, all seeds."""
    x, y = list[float](), list[float]()
    for rounds in by(curves, "seed").values():
        for number, mean in zip(*mean_slope(rounds), strict=True):
            if number:
                x.append(number)
                y.append(mean)
    return slope(x, y) if len(set(x)) >= FITTED and min(y) > 0 else None


def against(sites: Sequence[Site], reference: str) -> dict[tuple[str, str], Interval]:
    """Return AUROC minus that of ``reference`` by (strategy, heterogeneity), paired over sites.

    A site's values are those of the seeds that both have finished.
    """
    found = {}
    groups = by(sites, "strategy", "heterogeneity")
    for (strategy, heterogeneity), own in groups.items():
        other = groups.get((reference, heterogeneity), [])
        seeds = {s.seed for s in own} & {s.seed for s in other}
        draws = [
            {
                site: [s.auroc for s in rows if s.seed in seeds]
                for site, rows in by([s for s in side if s.seed in seeds], "site").items()
            }
            for side in (other, own)
        ]
        if strategy != reference and draws[0] and draws[0].keys() == draws[1].keys():
            found[strategy, heterogeneity] = paired_interval(draws[0], draws[1])
    return found


def findings(runs: Sequence[Run], curves: Sequence[Point], sites: Sequence[Site]) -> list[str]:
    """Return what can be said, each in a sentence with its numbers."""
    reference = runs[0].strategy if runs else ""
    lines = []
    pairs = against(sites, reference)
    for heterogeneity, own in by(runs, "heterogeneity").items():
        means = {
            s: mean_of_known([r.auroc for r in rows]) for s, rows in by(own, "strategy").items()
        }
        known = {s: m for s, m in means.items() if not math.isnan(m)}
        if not known:
            lines.append(f"**{heterogeneity}**: no run has ended well.")
            continue
        best = max(known, key=lambda s: known[s])
        text = f"**{heterogeneity}**: {best} ends highest, AUROC {known[best]:.4f}"
        difference = pairs.get((best, heterogeneity))
        if difference is not None:
            word = "above" if difference.excludes_zero and difference.mean > 0 else "not told from"
            text += f"; {word} {reference}, {interval_text(difference, 4)}"
        lines.append(text + ".")
        for strategy in known:
            found = pairs.get((strategy, heterogeneity))
            if found is not None and found.excludes_zero and found.mean < 0:
                lines.append(
                    f"**{heterogeneity}**: {strategy} is below {reference}, "
                    f"{interval_text(found, 4)}."
                )
    lines += _slopes(curves) + _unlike(runs) + _unhappy(runs)
    return lines


def _slopes(curves: Sequence[Point]) -> list[str]:
    found = {
        key: line
        for key, rows in by(curves, "strategy", "heterogeneity").items()
        if (line := fitted(rows)) is not None
    }
    if not found:
        return []
    reached = [f"{s} under {h} ({line})" for (s, h), line in found.items() if line.low <= -0.5]
    text = (
        "The mean of ||grad F||\u00b2 falls at least like 1/sqrt(rounds) (slope -1/2 within the "
        f"interval of the fit) for {len(reached)} of {len(found)} pairs"
    )
    return [f"{text}: {'; '.join(reached)}." if reached else f"{text}."]


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
    return [f"{run.cell.name} {run.status}: {run.reason}." for run in runs if run.reason]


def _counts(runs: Sequence[Run]) -> list[str]:
    ended = sum(run.status == outcome.COMPLETED for run in runs)
    diverged = sum(run.status == outcome.DIVERGED for run in runs)
    strategies, others = (list(by(runs, name)) for name in ("strategy", "heterogeneity"))
    seeds = len({run.seed for run in runs})
    minutes = sum(run.seconds for run in runs) / 60
    return [
        f"{len(runs)} runs of {len(strategies)} strategies under {len(others)} heterogeneities "
        f"with {seeds} seeds: {ended} completed, {diverged} diverged, "
        f"{len(runs) - ended - diverged} failed; {minutes:.1f} minutes of training in all."
    ]


def _table(runs: Sequence[Run], curves: Sequence[Point], sites: Sequence[Site]) -> list[str]:
    reference = runs[0].strategy if runs else ""
    pairs, groups = against(sites, reference), by(curves, "strategy", "heterogeneity")
    lines = [
        f"| strategy | heterogeneity | ended | AUROC | against {reference} | gain over round 0 "
        "| ||grad F||\u00b2 at the end | slope of its mean | drift | cosine | MB | s |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for (strategy, heterogeneity), own in by(runs, "strategy", "heterogeneity").items():
        ended = [run for run in own if run.status == outcome.COMPLETED]
        pair = pairs.get((strategy, heterogeneity))
        line = fitted(groups.get((strategy, heterogeneity), []))
        cells = [
            strategy, heterogeneity, f"{len(ended)} of {len(own)}",
            _text([r.auroc for r in ended], "{:.4f}"),
            "" if pair is None else interval_text(pair, 4),
            _text([r.auroc - r.control for r in ended], "{:+.4f}"),
            _text([r.slope for r in ended], "{:.2e}"),
            "" if line is None else str(line),
            _text([r.drift for r in own], "{:.2e}"), _text([r.cosine for r in own], "{:.2f}"),
            _text([r.megabytes for r in ended], "{:.2f}"),
            _text([r.seconds for r in ended], "{:.1f}"),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    lines[0] = lines[0].replace("||grad F||", "\\|\\|grad F\\|\\|")
    return lines


def _text(values: Sequence[float], form: str) -> str:
    mean = mean_of_known(values)
    return "" if math.isnan(mean) else form.format(mean)
