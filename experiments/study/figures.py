"""The figures of a study, each from its CSV.

python -m experiments.study.figures DIR
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bayfed.errors import BayfedError, DataError
from bayfed.evaluation.bench.figures import COLOURS
from experiments.study.outcome import Mark, read_marks
from experiments.study.plots import draw_all
from experiments.study.slopes import slope
from experiments.study.table import Run

MARKERS = "os^Dvp*X"
LINES = ("bound", "theory")
"""Series whose names start like this are drawn as lines without markers."""


def draw(path: Path) -> Path:
    """Draw the points of a CSV beside it, as PNG, and return the file.

    Raises:
        DataError: the file is no table of a figure.
    """
    abscissa, marks = read_marks(path)
    panels: dict[str, list[Mark]] = defaultdict(list)
    for mark in marks:
        panels[mark.panel].append(mark)
    figure = Figure(figsize=(5.6 * max(1, len(panels)), 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    colour_of = {s: COLOURS[i % len(COLOURS)] for i, s in enumerate(_names(marks))}
    for i, (label, own) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), i + 1)
        _panel(axes, own, colour_of)
        axes.set(xscale="log", yscale="log", xlabel=abscissa, ylabel=label)
        axes.grid(visible=True, which="major", linewidth=0.4)
        axes.legend(fontsize=8, frameon=False)
    target = path.with_suffix(".png")
    figure.savefig(target, dpi=110, metadata={"Software": None})
    return target


def _names(marks: list[Mark]) -> list[str]:
    return list(dict.fromkeys(mark.series for mark in marks))


def _panel(axes: Axes, marks: list[Mark], colour_of: dict[str, str]) -> None:
    for i, name in enumerate(_names(marks)):
        own = [mark for mark in marks if mark.series == name and mark.y > 0]
        x, y = np.array([m.x for m in own]), np.array([m.y for m in own])
        if name.startswith(LINES):
            axes.plot(x, y, "--", color=colour_of[name], label=name, linewidth=1.3)
            continue
        fitted = [mark for mark in own if mark.fit]
        label = name
        if len(fitted) > 2:
            line = slope([m.x for m in fitted], [m.y for m in fitted])
            ends = np.array([min(m.x for m in fitted), max(m.x for m in fitted)])
            axes.plot(ends, line.factor * ends**line.value, color=colour_of[name], linewidth=0.9)
            label = f"{name}: slope {line}"
        axes.plot(x, y, MARKERS[i % 8], color=colour_of[name], label=label, markersize=4, alpha=0.8)


def main(folder: Annotated[Path, typer.Argument(help="Where the CSV files are.")]) -> None:
    """Draw every figure of a folder anew: of checks of the theory, or of a study."""
    try:
        drawn = _draw_folder(folder)
    except BayfedError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    for path in drawn:
        typer.echo(path)


def _draw_folder(folder: Path) -> list[Path]:
    if (folder / Run.file).exists():
        return draw_all(folder)
    tables = sorted(folder.glob("*.csv"))
    if not tables:
        raise DataError(f"{folder}: holds no table of a study or of a check")
    return [draw(path) for path in tables]


if __name__ == "__main__":
    typer.run(main)
