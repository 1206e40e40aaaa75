"""A plot of a bench, drawn for a page whose colours follow its theme, or for a file."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bayfed.evaluation import plots

DPI = 160


class Palette(NamedTuple):
    """Colours of text, of lines and of the paper."""

    ink: str
    line: str
    paper: str


THEME = Palette(plots.INK, plots.LINE, plots.PAPER)
"""Markers that :func:`bayfed.evaluation.plots.page_svg` binds to the page's own colours."""
LIGHT = Palette("#3a3a3a", "#cccccc", "#ffffff")


@dataclass(frozen=True)
class Chart:
    """A plot with its words.

    Attributes:
        name: Of its files.
        title: What is shown.
        caption: Number, unit and interval of what is shown.
        draw: Draws it.
        size: Width and height in inches.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Axes, Palette], None]
    size: tuple[float, float]

    def inline(self) -> str:
        """Return the plot as SVG text for a page."""
        return plots.page_svg(self._save("svg", THEME).decode(), self.title)

    def file(self, kind: str) -> bytes:
        """Return the plot as a file, ``svg`` or ``png``."""
        return self._save(kind, LIGHT)

    def _save(self, kind: str, palette: Palette) -> bytes:
        colours = dict(zip(THEME, palette, strict=True))
        style: Any = {key: colours.get(value, value) for key, value in plots.STYLE.items()}
        with mpl.rc_context(style):
            figure = Figure(figsize=self.size, layout="constrained")
            FigureCanvasAgg(figure)
            axes = figure.subplots()
            for side in ("top", "right", "left"):
                axes.spines[side].set_visible(False)
            self.draw(axes, palette)
            if palette is LIGHT:  # on a page the words stand below the plot
                words = textwrap.fill(f"{self.title}. {self.caption}", int(15.5 * self.size[0]))
                figure.supxlabel(words, x=0.01, ha="left", fontsize=7)
            options: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {}
            if palette is LIGHT:
                options["facecolor"] = palette.paper
            else:
                options["transparent"] = True
            file = io.BytesIO()
            figure.savefig(file, format=kind, dpi=DPI, **options)
        return file.getvalue()
