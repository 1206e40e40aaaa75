"""What a bench shows: paired differences, AUROC against shots or noise, wins, and sweeps."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from bayfed.config import FULL
from bayfed.evaluation.bench.charts import Chart, Palette
from bayfed.evaluation.bench.compare import (
    Competitor,
    Duel,
    Panel,
    counted,
    duel,
    over_seeds,
    paired,
)
from bayfed.evaluation.summary import CONTROL, TRAINED
from bayfed.metrics.intervals import Interval

COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#a8790b", "#3f9fd8", "#7f6bd0", "#8a8a8a",
)  # fmt: skip
"""After Okabe and Ito, the light ones darkened so that they show on white."""
STYLES = {
    "none": ("o", ":"), "prior": ("v", "-."), "local": ("s", "--"), "centralised": ("D", "-."),
    "federated": ("o", "-"), "federated+finetune": ("^", "-"),
}  # fmt: skip
"""Marker and line of each arm."""
WIN, LOSS = "#0072b2", "#d55e00"
LARGEST = 24
"""Competitors that one plot can show."""
CURVES = 12
"""Competitors above which curves are drawn for round 0 and the federation only."""
_SWEPT = re.compile(r"^(?P<system>.*?) ?(?P<key>\w+)=(?P<value>\S+)$")


def differences(panel: Panel, reference: str) -> Chart | None:
    """Return paired differences with their intervals; None where nothing can be paired."""
    against = panel.find(reference)
    rows: list[tuple[Competitor, Interval | None, Interval | None]] = []
    for one in panel.competitors[:LARGEST]:
        control = panel.find(one.system) if one.arm != CONTROL else None
        own = paired(control, one) if control else None
        other = paired(against, one) if against not in (None, one, control) else None
        if own or other:
            rows.append((one, own, other))
    if not rows:
        return None

    def draw(axes: Axes, palette: Palette) -> None:
        axes.axvline(0, color=palette.ink, lw=0.8)
        for height, (_, own, other) in enumerate(reversed(rows)):
            if own is not None and own.n:
                _whisker(axes, own, height + 0.16, WIN, "o")
            if other is not None and other.n:
                _whisker(axes, other, height - 0.16, LOSS, "s")
        axes.set_yticks(range(len(rows)), [one.title for one, _, _ in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.grid(False, axis="y")
        axes.set_xlabel("difference of image AUROC")
        _key(axes, [("minus its own control", WIN, "o"), (f"minus {reference}", LOSS, "s")],
             [any(own for _, own, _ in rows), against is not None])  # fmt: skip

    caption = (
        f"{_conditions(panel)}. Draws and seeds averaged within a site; bars: 95 % t-interval "
        f"over n = {len(panel.sites)} sites. Control: the same system at round-0 parameters."
        f"{_cut(panel)}"
    )
    size = (6.4, 0.9 + 0.3 * len(rows))
    return Chart(_name("differences", panel), "Paired differences", caption, draw, size)


def _whisker(axes: Axes, interval: Interval, height: float, colour: str, marker: str) -> None:
    if not math.isnan(interval.low):
        axes.plot([interval.low, interval.high], [height] * 2, color=colour, lw=1.4)
    axes.plot([interval.mean], [height], marker, color=colour, ms=4.5)


def _key(axes: Axes, marks: Sequence[tuple[str, str, str]], shown: Sequence[bool]) -> None:
    for (text, colour, marker), wanted in zip(marks, shown, strict=True):
        if wanted:
            axes.plot([], [], marker, color=colour, ms=4.5, label=text)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2)


def against(panels: Sequence[Panel], axis: str) -> Chart | None:
    """Return AUROC against ``shots`` or ``noise`` for panels that differ in nothing else.

    None where there are fewer than two values of it.
    """
    at = [_position(panel, axis) for panel in panels]
    if len(set(at)) < 2:
        return None
    first = panels[0]
    whole = {place for panel, place in zip(panels, at, strict=True) if panel.full}
    words = {x: "full" if axis == "shots" and x in whole else f"{x:g}" for x in at}
    names = list(dict.fromkeys((one.system, one.arm) for p in panels for one in p.competitors))
    if len(names) > CURVES:
        names = [name for name in names if name[1] in (CONTROL, TRAINED)][:LARGEST]
    systems = list(dict.fromkeys(system for system, _ in names))

    def draw(axes: Axes, palette: Palette) -> None:
        del palette
        for number, (system, arm) in enumerate(names):
            index = systems.index(system) if systems[1:] else number
            shift = 0.012 * (number - (len(names) - 1) / 2)
            _curve(axes, panels, axis, (system, arm), index, shift)
        if axis == "shots":
            axes.set_xscale("log")
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, 0.0), min(high, 1.0))
        axes.xaxis.set_major_locator(FixedLocator(sorted(set(at))))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(sorted(set(at)), [words[value] for value in sorted(set(at))])
        axes.set_xlabel(
            "good images in the support" if axis == "shots" else "defects in train/good, fraction"
        )
        axes.set_ylabel("image AUROC")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7.5, handlelength=2.6)

    caption = (
        f"Protocol {first.protocol}, {first.backbone}. Mean over n = {len(first.sites)} sites; "
        f"{_bars(first)}."
    )
    title = f"Image AUROC against {axis}"
    name = f"{axis}-{first.protocol}" + ("" if axis == "shots" else f"-{_support(first)}")
    return Chart(name, title, caption, draw, (6.4, max(3.0, 0.5 + 0.19 * len(names))))


def _curve(
    axes: Axes,
    panels: Sequence[Panel],
    axis: str,
    name: tuple[str, str],
    index: int,
    shift: float,
) -> None:
    """Draw one competitor; ``shift`` keeps its bars apart from those of others.

    Where the colours begin anew, the markers are hollow.
    """
    marker, line = STYLES.get(name[1], ("o", "-"))
    colour, fill = COLOURS[index % len(COLOURS)], "full" if index < len(COLOURS) else "none"
    found = [(_position(panel, axis), panel.find(*name)) for panel in panels]
    points = [(x, over_seeds(one)) for x, one in found if one is not None]
    known = sorted((x, mean) for x, mean in points if mean.n)
    if not known:
        return
    x, means = [x for x, _ in known], [mean.mean for _, mean in known]
    system, arm = name
    label = system if arm == CONTROL else f"{system}, {arm}"
    axes.plot(x, means, line, color=colour, marker=marker, fillstyle=fill, ms=4, label=label)
    for place, mean in known:
        if not math.isnan(mean.low):
            beside = place * (1 + shift) if axis == "shots" else place + 0.1 * shift
            axes.plot([beside] * 2, [mean.low, mean.high], color=colour, lw=1.0, alpha=0.7)


def _position(panel: Panel, axis: str) -> float:
    return float(panel.shots if axis == "shots" else panel.noise or 0.0)


def wins(panel: Panel) -> Chart | None:
    """Return on how many sites each competitor was ahead of each other; None for one alone."""
    shown = panel.competitors[:LARGEST]
    if len(shown) < 2:
        return None
    duels = {(i, j): duel(shown[i], shown[j]) for i in range(len(shown)) for j in range(len(shown))}

    def draw(axes: Axes, palette: Palette) -> None:
        edges = np.arange(len(shown) + 1) - 0.5
        axes.pcolormesh(edges, edges, _colours(duels, len(shown)), ec=palette.line, lw=0.5)
        for (i, j), found in duels.items():
            if i != j and found.sites:
                star = "*" if found.interval.excludes_zero else ""
                text = f"{found.wins:g}{star}"
                cell = axes.text(j, i, text, ha="center", va="center", fontsize=7.5)
                cell.set_in_layout(False)
        titles = [f"{one.title}  {number}" for number, one in enumerate(shown, start=1)]
        axes.set_xticks(range(len(shown)), [str(i + 1) for i in range(len(shown))])
        axes.set_yticks(range(len(shown)), titles)
        axes.xaxis.tick_top()
        axes.set_xlim(-0.5, len(shown) - 0.5)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)

    caption = (
        f"{_conditions(panel)}. Of n = {len(panel.sites)} sites, those on which the row's mean "
        "image AUROC was above the column's, ties as a half. * the paired 95 % interval over "
        "sites excludes 0, each pair by itself: of twenty pairs that are alike one has a star."
        f"{_cut(panel)}"
    )
    longest = max(len(one.title) for one in shown)
    size = (max(4.2, 0.5 + 0.078 * longest + 0.36 * len(shown)), 1.0 + 0.32 * len(shown))
    return Chart(_name("wins", panel), "Wins over sites", caption, draw, size)


def _cut(panel: Panel) -> str:
    """Return what a plot of so many competitors leaves out."""
    number = len(panel.competitors)
    return f" The first {LARGEST} of {number} in the table." if number > LARGEST else ""


def _colours(duels: Mapping[tuple[int, int], Duel], number: int) -> NDArray[np.float64]:
    """Return the (number, number, 4) colours of the wins, the paper where nobody met."""
    colours = np.zeros((number, number, 4))
    for (i, j), found in duels.items():
        if i != j and found.sites:
            share = found.wins / found.sites
            colours[i, j] = to_rgba(WIN if share > 0.5 else LOSS, 1.1 * abs(share - 0.5) + 0.02)
    return colours


def sweeps(panel: Panel) -> list[Chart]:
    """Return a plot for each setting that a sweep has varied."""
    groups: defaultdict[str, list[tuple[float, str, Competitor]]] = defaultdict(list)
    for one in panel.competitors:
        found = _SWEPT.match(one.system)
        if found is None:
            continue
        try:
            value = float(found["value"])
        except ValueError:
            continue
        groups[found["key"]].append((value, found["system"], one))
    return [_sweep(panel, key, points) for key, points in sorted(groups.items())]


def _sweep(panel: Panel, key: str, points: Sequence[tuple[float, str, Competitor]]) -> Chart:
    curves: defaultdict[tuple[str, str], list[tuple[float, Competitor]]] = defaultdict(list)
    for value, system, one in points:
        curves[system, one.arm].append((value, one))
    systems = sorted({system for system, _ in curves})

    def draw(axes: Axes, palette: Palette) -> None:
        del palette
        for (system, arm), found in sorted(curves.items()):
            marker, line = STYLES.get(arm, ("o", "-"))
            colour = COLOURS[(systems.index(system) + 3 * _number(arm)) % len(COLOURS)]
            known = sorted((value, over_seeds(one)) for value, one in found)
            x, means = [value for value, _ in known], [mean.mean for _, mean in known]
            axes.plot(x, means, line, color=colour, marker=marker, ms=4, label=f"{system}, {arm}")
            for place, mean in known:
                if not math.isnan(mean.low):
                    axes.plot([place] * 2, [mean.low, mean.high], color=colour, lw=1.0)
        values = sorted({value for value, _, _ in points})
        if values[0] > 0 and values[-1] >= 20 * values[0]:
            axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(key)
        axes.set_ylabel("image AUROC")
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2)

    caption = f"{_conditions(panel)}. Mean over n = {len(panel.sites)} sites; {_bars(panel)}."
    return Chart(_name(f"sweep-{key}", panel), f"Sweep of {key}", caption, draw, (5.6, 3.0))


def _number(arm: str) -> int:
    return list(STYLES).index(arm) if arm in STYLES else len(STYLES)


def _bars(panel: Panel) -> str:
    if panel.seeds < 2:
        return f"{counted(panel.draws, 'draw')} of the support; one seed, so no bars"
    return f"bars: 95 % t-interval over {panel.seeds} seeds of {counted(panel.draws, 'draw')} each"


def _conditions(panel: Panel) -> str:
    noise = f", noise {panel.noise:g}" if panel.noise else ""
    return f"Protocol {panel.protocol}, {panel.support}{noise}, {panel.backbone}"


def _name(kind: str, panel: Panel) -> str:
    noise = f"-noise{panel.noise:g}" if panel.noise else ""
    return f"{kind}-{panel.protocol}-{_support(panel)}{noise}"


def _support(panel: Panel) -> str:
    return FULL if panel.full else str(panel.shots)
