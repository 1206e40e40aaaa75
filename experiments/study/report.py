"""What a study has found, in words, from its tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from bayfed.evaluation.atomic import write_atomic
from experiments.study.curves import mean_slope, rate, rate_text
from experiments.study.differences import against
from experiments.study.findings import findings
from experiments.study.plots import NAMES
from experiments.study.table import Point, Run, Site, by, mean_of_known
from server import outcome

NOTE = (
    "Means over the seeds that have ended; MB of tensors up and down, s of training, a run. Drift "
    "has the square of an update's unit, which is a gradient's for some strategies and that of "
    "theta - theta_c for others: compare it between strategies of one kind. F and its gradient are "
    "those of the shared parameters, whatever clients keep besides."
)


def write_summary(folder: Path, name: str) -> Path:
    """Write the summary of the study in ``folder``, and return its file.

    Raises:
        DataError: a table is missing or damaged.
    """
    runs, curves, sites = Run.read(folder), Point.read(folder), Site.read(folder)
    lines = [f"# {name}", "", *_counts(runs), ""]
    lines += ["## Findings", "", *(f"- {text}" for text in findings(runs, curves, sites)), ""]
    lines += ["## Runs", "", *_table(runs, curves, sites), "", NOTE, ""]
    lines += [f"![{n}]({n}.png)\n" for n in NAMES if (folder / f"{n}.png").exists()]
    lines += [
        "`study.csv` has a row for each run, `curves.csv` for each round, `sites.csv` for each "
        "site; `python -m experiments.study.figures DIR` draws the figures anew from them.",
    ]
    path = folder / "summary.md"
    write_atomic(path, ("\n".join(lines) + "\n").encode())
    return path


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
        f"| strategy | heterogeneity | ended | AUROC | minus {reference} [over sites] [over seeds] "
        "| gain over round 0 | ||grad F||\u00b2 at the end | b of its mean | drift | cosine "
        "| MB | s |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for (strategy, heterogeneity), own in by(runs, "strategy", "heterogeneity").items():
        ended = [run for run in own if run.status == outcome.COMPLETED]
        pair = pairs.get((strategy, heterogeneity))
        b = rate(groups.get((strategy, heterogeneity), []), mean_slope)
        cells = [
            strategy, heterogeneity, f"{len(ended)} of {len(own)}",
            _text([r.auroc for r in ended], "{:.4f}"),
            "" if pair is None else str(pair),
            _text([r.auroc - r.control for r in ended], "{:+.4f}"),
            _text([r.slope for r in ended], "{:.2e}"),
            "" if b is None else rate_text(b),
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
