"""The figures of a study, from its tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from bayfed.evaluation.bench.figures import COLOURS
from experiments.study.slopes import slope
from experiments.study.table import Point, Run, by
from server import outcome

Values = NDArray[np.float64]
Curve = Callable[[Sequence[Point]], tuple[list[float], list[float]]]
"""From the rounds of a run to abscissae and ordinates."""
LEVEL = 0.95
FITTED = 3
"""Points from which on a line is fitted."""
NAMES = ("convergence", "auroc", "heatmap", "dissimilarity", "drift")


def draw_all(folder: Path) -> list[Path]:
    """Draw every figure of the study in ``folder`` anew, and return the files.

    Raises:
        DataError: a table is missing or damaged.
    """
    curves, runs = Point.read(folder), Run.read(folder)
    drawn = {
        "convergence": _grid(curves, {"min ||grad F||\u00b2": _least,
                                      "mean ||grad F||\u00b2": mean_slope}, "round", log=True),
        "auroc": _auroc(curves),
        "heatmap": _heatmap(runs),
        "dissimilarity": _dissimilarity(runs),
        "drift": _grid(curves, {"drift": _column("drift"), "cosine of updates": _column("cosine"),
                                "inner gain": _column("inner_gain")}, "round"),
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


def _column(name: str) -> Curve:
    def of(rounds: Sequence[Point]) -> tuple[list[float], list[float]]:
        known = [p for p in rounds if not math.isnan(getattr(p, name))]
        return [float(p.round) for p in known], [getattr(p, name) for p in known]

    return of


def _least(rounds: Sequence[Point]) -> tuple[list[float], list[float]]:
    x, y = _column("slope")(rounds)
    return x, list(accumulate(y, min))


def mean_slope(rounds: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Return the rounds that were diagnosed, and the mean of the squared gradients up to each."""
    x, y = _column("slope")(rounds)
    return x, [total / (i + 1) for i, total in enumerate(accumulate(y))]


def _figure(rows: int, columns: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(4.4 * columns + 1.2, 3.1 * rows + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _grid(
    curves: Sequence[Point], what: dict[str, Curve], abscissa: str, log: bool = False
) -> Figure | None:
    """Draw a row for each heterogeneity and a column for each of ``what``."""
    rows = by(curves, "heterogeneity")
    if not rows or not any(curve(curves)[0] for curve in what.values()):
        return None
    figure, axes = _figure(len(rows), len(what))
    for i, (heterogeneity, own) in enumerate(rows.items()):
        for j, (label, curve) in enumerate(what.items()):
            _panel(axes[i, j], own, curve, log)
            axes[i, j].set(xlabel=abscissa, ylabel=label)
            axes[i, j].set_title(heterogeneity, fontsize=9)
    return figure


def _auroc(curves: Sequence[Point]) -> Figure | None:
    """Draw AUROC against rounds, bytes and seconds."""
    rows = by([p for p in curves if not math.isnan(p.auroc)], "heterogeneity")
    if not rows:
        return None
    against = {"round": "round", "megabytes": "MB up and down", "seconds": "seconds of training"}
    figure, axes = _figure(len(rows), len(against))
    for i, (heterogeneity, own) in enumerate(rows.items()):
        for j, (name, label) in enumerate(against.items()):

            def curve(rounds: Sequence[Point], name: str = name) -> tuple[list[float], list[float]]:
                return [float(getattr(p, name)) for p in rounds], [p.auroc for p in rounds]

            _panel(axes[i, j], own, curve, log=False)
            axes[i, j].set(xlabel=label, ylabel="image AUROC")
            axes[i, j].set_title(heterogeneity, fontsize=9)
    return figure


def _panel(axes: Axes, rows: Sequence[Point], curve: Curve, log: bool) -> None:
    """Draw a band for each strategy, over the seeds that went as far as the furthest."""
    for i, (strategy, own) in enumerate(by(rows, "strategy").items()):
        each = [_drawable(*curve(rounds), log) for rounds in by(own, "seed").values()]
        furthest = max(len(points) for points in each)
        if not furthest:
            continue
        whole = np.array([points for points in each if len(points) == furthest])
        x, y, label = whole[..., 0].mean(axis=0), whole[..., 1], strategy
        if log:
            y = np.log(y)
            if furthest >= FITTED:
                label = f"{strategy}: slope {slope(x.tolist(), np.exp(y.mean(axis=0)).tolist())}"
        mean, half = band(y)
        lines = [mean, mean - half, mean + half]
        middle, low, high = (np.exp(line) for line in lines) if log else lines
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(x, middle, color=colour, label=label, linewidth=1.4, marker=".", markersize=4)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    if log:
        axes.set(xscale="log", yscale="log")
    axes.grid(visible=True, which="major", linewidth=0.4)
    if axes.has_data():
        axes.legend(fontsize=7, frameon=False)


def _drawable(x: list[float], y: list[float], log: bool) -> list[tuple[float, float]]:
    points = list(zip(x, y, strict=True))
    return [(a, b) for a, b in points if a > 0 and b > 0] if log else points


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
                text = f"{middle[0]:.3f} \u00b1 {half[0]:.3f}\n{text}".strip()
            axes.text(j, i, text, ha="center", va="center", fontsize=8)
    if np.isnan(mean).all():
        return None
    axes.imshow(mean, cmap="Blues", aspect="auto", alpha=0.6)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(strategies)), strategies)
    axes.set_title("final image AUROC, mean and 95 % interval over seeds", fontsize=9)
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
    return figure
