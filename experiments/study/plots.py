"""The figures of a study, from its tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray
from scipy import stats

from bayfed.evaluation.bench.figures import COLOURS
from experiments.study.curves import (
    Curve,
    column,
    furthest,
    least_slope,
    mean_slope,
    positive,
    rate,
    rate_text,
)  # fmt: skip
from experiments.study.table import Point, Run, by
from server import outcome

Values = NDArray[np.float64]
LEVEL = 0.95
TICKS = 8
"""Most rounds that are all marked on a logarithmic axis."""
NAMES = ("convergence", "auroc", "heatmap", "dissimilarity", "drift")


def draw_all(folder: Path) -> list[Path]:
    """Draw every figure of the study in ``folder`` anew, and return the files.

    Raises:
        DataError: a table is missing or damaged.
    """
    curves, runs = Point.read(folder), Run.read(folder)
    drawn = {
        "convergence": _grid(curves, {"min ||grad F||\u00b2 so far": least_slope,
                                      "mean ||grad F||\u00b2 so far": mean_slope}, log=True),
        "auroc": _auroc(curves),
        "heatmap": _heatmap(runs),
        "dissimilarity": _dissimilarity(runs),
        "drift": _grid(curves, {"drift: mean ||update - mean||\u00b2": column("drift"),
                                "mean cosine of two updates": column("cosine"),
                                "inner gain, in loss": column("inner_gain")}),
    }  # fmt: skip
    paths = []
    for name in NAMES:
        figure = drawn[name]
        if figure is not None:
            paths.append(folder / f"{name}.png")
            figure.savefig(paths[-1], dpi=110, metadata={"Software": None})
    return paths


def band(values: Values) -> tuple[Values, Values]:
    """Return the mean over the first axis, and the half width of its t-interval (0 for one)."""
    mean = values.mean(axis=0)
    number = len(values)
    if number < 2:
        return mean, np.zeros_like(mean)
    spread = values.std(axis=0, ddof=1) / math.sqrt(number)
    return mean, stats.t.ppf((1 + LEVEL) / 2, number - 1) * spread


def _figure(rows: int, columns: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(4.4 * columns + 1.2, 3.1 * rows + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _grid(curves: Sequence[Point], what: dict[str, Curve], log: bool = False) -> Figure | None:
    """Draw a row for each heterogeneity and a column for each of ``what``."""
    rows = by(curves, "heterogeneity")
    if not rows or not any(curve(curves)[0] for curve in what.values()):
        return None
    figure, axes = _figure(len(rows), len(what))
    for i, (heterogeneity, own) in enumerate(rows.items()):
        for j, (label, curve) in enumerate(what.items()):
            _panel(axes[i, j], own, curve, log)
            axes[i, j].set(xlabel="round", ylabel=label)
            axes[i, j].set_title(heterogeneity, fontsize=9)
            _mark_rounds(axes[i, j], log)
    _say_bands(figure, curves)
    return figure


def _mark_rounds(axes: Axes, log: bool) -> None:
    """Put ticks at whole rounds."""
    if not log:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return
    shown = sorted({x for line in axes.lines for x in np.asarray(line.get_xdata()).tolist()})
    if 0 < len(shown) <= TICKS:
        axes.set_xticks(shown, [f"{x:g}" for x in shown])
        axes.xaxis.set_minor_locator(NullLocator())


def _say_bands(figure: Figure, curves: Sequence[Point]) -> None:
    seeds = len(by(curves, "seed"))
    text = f"mean over {seeds} seeds and its 95 % interval (Student's t)"
    figure.suptitle(text if seeds > 1 else "one seed: no interval", fontsize=9)


def _auroc(curves: Sequence[Point]) -> Figure | None:
    """Draw AUROC against rounds, bytes and seconds."""
    rows = by([p for p in curves if not math.isnan(p.auroc)], "heterogeneity")
    if not rows:
        return None
    against = {"round": "round", "megabytes": "MB up and down", "seconds": "seconds of training"}
    figure, axes = _figure(len(rows), len(against))
    for i, (heterogeneity, own) in enumerate(rows.items()):
        for j, (name, label) in enumerate(against.items()):
            _panel(axes[i, j], own, column("auroc", name), log=False)
            low, high = axes[i, j].get_ylim()
            limits = max(0.0, low), min(1.0, high)  # an interval of few seeds goes beyond
            axes[i, j].set(xlabel=label, ylabel="image AUROC", ylim=limits)
            axes[i, j].set_title(heterogeneity, fontsize=9)
        _mark_rounds(axes[i, 0], log=False)
    _say_bands(figure, curves)
    return figure


def _panel(axes: Axes, rows: Sequence[Point], curve: Curve, log: bool) -> None:
    """Draw a band for each strategy, over the seeds that went as far as the furthest."""
    for i, (strategy, own) in enumerate(by(rows, "strategy").items()):
        runs = {str(seed): curve(rounds) for seed, rounds in by(own, "seed").items()}
        whole = furthest(
            {s: positive(x, y) if log else list(zip(x, y, strict=True))
             for s, (x, y) in runs.items()}
        )  # fmt: skip
        if not whole:
            continue
        points = np.array(list(whole.values()))
        x, y, label = points[..., 0].mean(axis=0), points[..., 1], strategy
        if len(whole) < len(runs):
            label += f", {len(whole)} of {len(runs)} seeds"
        if log and (found := rate(own, curve)) is not None:
            label += f": slope {rate_text(found)}"
        mean, half = band(np.log(y) if log else y)
        lines = [mean, mean - half, mean + half]
        middle, low, high = (np.exp(line) for line in lines) if log else lines
        colour, dashes = COLOURS[i % len(COLOURS)], "-" if i < len(COLOURS) else "--"
        axes.plot(x, middle, dashes, color=colour, label=label, lw=1.4, marker=".", markersize=4)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    if log:
        axes.set(xscale="log", yscale="log")
    axes.grid(visible=True, which="major", linewidth=0.4)
    if axes.has_data():
        axes.legend(fontsize=7, frameon=False)


def _heatmap(runs: Sequence[Run]) -> Figure | None:
    strategies, columns = list(by(runs, "strategy")), list(by(runs, "heterogeneity"))
    cells = by(runs, "strategy", "heterogeneity")
    mean = np.full((len(strategies), len(columns)), np.nan)
    figure, grid = _figure(1, 1)
    axes = grid[0, 0]
    figure.set_size_inches(1.9 * len(columns) + 2.4, 0.55 * len(strategies) + 1.4)
    for i, strategy in enumerate(strategies):
        for j, heterogeneity in enumerate(columns):
            own = cells.get((strategy, heterogeneity), [])
            known = np.array([[r.auroc] for r in own if not math.isnan(r.auroc)])
            lost = sum(r.status == outcome.DIVERGED for r in own)
            text = f"{lost} diverged" if lost else ""
            if len(known):
                middle, half = band(known)
                mean[i, j] = middle[0]
                spread = f" \u00b1 {half[0]:.3f}" if len(known) > 1 else ""
                text = f"{middle[0]:.3f}{spread}, n = {len(known)}\n{text}".strip()
            axes.text(j, i, text, ha="center", va="center", fontsize=8)
    if np.isnan(mean).all():
        return None
    axes.imshow(mean, cmap="Blues", aspect="auto", alpha=0.6)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(strategies)), strategies)
    axes.set_title("final image AUROC, mean and 95 % interval over n seeds", fontsize=9)
    return figure


def _dissimilarity(runs: Sequence[Run]) -> Figure | None:
    """Draw what came out against how unlike the clients are, in gradients and in normals."""
    abscissae = {
        "dissimilarity of the clients' gradients at round 0": [r.dissimilarity for r in runs],
        "share of the normals' variance between clients": [r.apart for r in runs],
    }
    known = {label: x for label, x in abscissae.items() if any(value > 0 for value in x)}
    if not known:
        return None
    figure, axes = _figure(len(known), 2)
    ordinates = {
        "gain of AUROC over round 0": [r.auroc - r.control for r in runs],
        "||grad F||\u00b2 at the end": [r.slope for r in runs],
    }
    strategies = list(by(runs, "strategy"))
    for i, (below, x) in enumerate(known.items()):
        for j, (beside, y) in enumerate(ordinates.items()):
            for k, strategy in enumerate(strategies):
                own = [n for n, run in enumerate(runs) if run.strategy == strategy]
                axes[i, j].plot(
                    [x[n] for n in own], [y[n] for n in own], "os^Dvp*X"[k % 8],
                    color=COLOURS[k % len(COLOURS)], label=strategy, markersize=5,
                )  # fmt: skip
            axes[i, j].set(
                xlabel=below, ylabel=beside, xscale="log", yscale="log" if j else "linear"
            )
            axes[i, j].grid(visible=True, which="major", linewidth=0.4)
    axes[0, 0].legend(fontsize=7, frameon=False)
    figure.suptitle("a point is a run", fontsize=9)
    return figure
