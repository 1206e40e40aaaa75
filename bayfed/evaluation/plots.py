"""Charts of the report as SVG text whose colours and fonts follow the page.

Colours are drawn as markers and then replaced by CSS variables with a fallback, so that one
drawing serves a light and a dark page; the palette (blue and vermilion) is that of Okabe and
Ito, and no meaning rests on colour alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bayfed.evaluation.colours import LEGEND_GREY, ColourScale, surprise_colours
from bayfed.evaluation.summary import SiteLine

Round = Mapping[str, Any]
Points = tuple[list[int], list[float]]

INK, LINE, BEFORE, AFTER, PAPER = "#010203", "#010204", "#010205", "#010206", "#010207"
CSS = {
    INK: "var(--soft, #555)",
    LINE: "var(--line, #ccc)",
    BEFORE: "var(--before, #d55e00)",
    AFTER: "var(--after, #0072b2)",
    PAPER: "var(--paper, #fff)",
}
STYLE: Any = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "bayfed",
    "font.size": 8.0,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}
_WIDTH, _HEIGHT = 4.2, 2.3  # inches


def _chart(draw: Callable[[Axes], None], label: str, height: float = _HEIGHT) -> str:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        draw(axes)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return page_svg(text.getvalue(), label)


def page_svg(svg: str, label: str) -> str:
    """Cut what an inline SVG does not need and bind colours and fonts to the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans, sans-serif)", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    for marker, css in CSS.items():
        svg = svg.replace(marker, css)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


def _points(rounds: Sequence[Round], key: str) -> Points:
    known = [line for line in rounds if line.get(key) is not None]
    return [int(line["round"]) for line in known], [float(line[key]) for line in known]


def _of_rounds(axes: Axes, unit: str) -> None:
    axes.set_xlabel("round")
    axes.set_ylabel(unit)
    axes.grid(False, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))


def _legend(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, borderaxespad=0.0)


def _marker(points: Points) -> str:
    return "o" if len(points[0]) <= 12 else ""


def loss_curve(rounds: Sequence[Round]) -> str:
    """Return the mean loss over rounds within the range of the clients' losses."""

    def draw(axes: Axes) -> None:
        at, low, high = _client_range(rounds)
        axes.fill_between(at, low, high, color=AFTER, alpha=0.16, lw=0, label="range of clients")
        mean = _points(rounds, "loss")
        axes.plot(*mean, color=AFTER, marker=_marker(mean), ms=3.5, label="mean")
        _of_rounds(axes, "loss")
        _legend(axes)

    return _chart(draw, "Loss over rounds, mean and range of the clients")


def auroc_curve(rounds: Sequence[Round]) -> str:
    """Return the mean image AUROC over rounds, where it was measured."""

    def draw(axes: Axes) -> None:
        mean = _points(rounds, "mean_image_auroc")
        axes.plot(*mean, color=AFTER, marker=_marker(mean), ms=3.5)
        _of_rounds(axes, "mean image AUROC")

    return _chart(draw, "Mean image AUROC over rounds")


def bytes_curve(rounds: Sequence[Round]) -> str:
    """Return the megabytes sent up and down in each round, all clients together."""

    def draw(axes: Axes) -> None:
        for key, label, colour, style in (
            ("bytes_up", "clients to server", AFTER, "-"),
            ("bytes_down", "server to clients", BEFORE, "--"),
        ):
            at, size = _points(rounds, key)
            axes.plot(at, [v / 1e6 for v in size], color=colour, ls=style, label=label)
        axes.set_ylim(bottom=0.0)
        _of_rounds(axes, "MB a round")
        _legend(axes)

    return _chart(draw, "Megabytes sent in each round")


def seconds_curve(rounds: Sequence[Round]) -> str:
    """Return the seconds of each round: computing, and the overhead above it."""

    def draw(axes: Axes) -> None:
        known = [line for line in rounds if line.get("seconds_compute") is not None]
        at, compute = _points(known, "seconds_compute")
        overhead = [float(line.get("seconds_overhead") or 0.0) for line in known]
        axes.bar(at, compute, color=AFTER, label="compute")
        axes.bar(at, overhead, bottom=compute, color=BEFORE, label="overhead")
        axes.set_xlim(min(at) - 0.7, max(at) + 0.7)
        _of_rounds(axes, "seconds a round")
        _legend(axes)

    return _chart(draw, "Seconds of each round, computing and overhead")


def dumbbell(lines: Sequence[SiteLine], unit: str = "image AUROC") -> str:
    """Return one row a site: control (ring) and trained (dot) joined by a line."""
    ordered = sorted(lines, key=lambda line: (line.trained or 0.0, line.site))

    def draw(axes: Axes) -> None:
        for height, line in enumerate(ordered):
            if line.control is not None and line.trained is not None:
                axes.plot([line.control, line.trained], [height] * 2, color=LINE, lw=3, zorder=1)
        for arm, colour, fill in (("control", BEFORE, PAPER), ("trained", AFTER, AFTER)):
            known = [(getattr(x, arm), y) for y, x in enumerate(ordered)]
            shown = [(value, y) for value, y in known if value is not None]
            axes.scatter(
                [v for v, _ in shown], [y for _, y in shown],
                s=30, facecolor=fill, edgecolor=colour, linewidth=1.5, zorder=2, label=arm,
            )  # fmt: skip
        axes.set_yticks(range(len(ordered)), [_short(line.site) for line in ordered])
        axes.set_ylim(-0.6, len(ordered) - 0.4)
        axes.set_xlabel(unit)
        axes.grid(False, axis="y")
        _legend(axes)

    return _chart(draw, f"{unit} of each site before and after training", 0.9 + 0.21 * len(ordered))


def colour_bar(scale: ColourScale, stops: int = 24) -> str:
    """Return the legend of all heatmaps: limits, colours over mid grey, and the threshold."""
    shares = [number / stops for number in range(stops + 1)]
    colours = surprise_colours(np.asarray(shares), LEGEND_GREY)
    marks = "".join(
        f'<stop offset="{share:.4f}" stop-color="rgb({red},{green},{blue})"/>'
        for share, (red, green, blue) in zip(shares, colours, strict=True)
    )
    label = f"Colour scale from surprise {scale.low:.3g} (dark) to {scale.high:.3g} (bright)"
    words = "" if scale.threshold is None else f"threshold {scale.threshold:.3g}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 320 58" class="scale" '
        f'aria-label="{label}{words and ", "}{words}">'
        f'<defs><linearGradient id="surprise">{marks}</linearGradient></defs>'
        f'<rect x="1" y="24" width="318" height="12" rx="2" fill="url(#surprise)"/>'
        f'{_threshold_mark(scale, words)}<text x="1" y="52">{scale.low:.3g} and below</text>'
        f'<text x="319" y="52" text-anchor="end">{scale.high:.3g} and above</text></svg>'
    )


def _threshold_mark(scale: ColourScale, words: str) -> str:
    if scale.threshold is None:
        return ""
    if not scale.low <= scale.threshold <= scale.high:
        return f'<text x="1" y="14">{words}, off the scale</text>'
    x = 1 + 318 * float(scale.position(scale.threshold))
    anchor = "start" if x < 50 else "end" if x > 270 else "middle"
    return (
        f'<path d="M{x:.1f} 20V40" stroke="currentColor" stroke-width="2"/>'
        f'<text x="{x:.1f}" y="14" text-anchor="{anchor}">{words}</text>'
    )


def _client_range(rounds: Sequence[Round]) -> tuple[list[int], list[float], list[float]]:
    losses = {
        int(line["round"]): [
            float(client["loss"])
            for client in line.get("clients") or ()
            if client.get("loss") is not None
        ]
        for line in rounds
    }
    at = [number for number, known in losses.items() if known]
    return at, [min(losses[number]) for number in at], [max(losses[number]) for number in at]


def _short(name: str, length: int = 22) -> str:
    # a dollar sign would start mathematical text
    return name if len(name) <= length else name[: length - 1] + "…"
