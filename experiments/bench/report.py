"""What follows the last cell: tables, plots, the page, and a summary on the console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bayfed.config import Backbone
from bayfed.errors import ConfigError
from bayfed.evaluation.bench.compare import Competitor, over_seeds, paired, panels
from bayfed.evaluation.bench.report import Findings, write_bench_report
from bayfed.evaluation.bench.tables import signed
from bayfed.evaluation.report_tables import number
from bayfed.evaluation.summary import CONTROL
from experiments.bench.arms import TRAINED
from experiments.bench.folder import Folder
from experiments.bench.plan import Named
from experiments.bench.request import Asked
from experiments.finish import environment

SHOWN = 3
"""Cells that were not measured and are named."""


def write_report(
    folder: Folder,
    asked: Asked,
    named: Sequence[Named],
    missed: Mapping[str, str],
    short: Sequence[str],
    console: Console,
) -> Path | None:
    """Write the report of all that the folder holds; None where nothing was measured.

    Raises:
        BayfedError: the table cannot be read, or a file not written.
    """
    rows = folder.rows()
    if not rows:
        return None
    first = next(iter(asked.systems.values()))
    shots = asked.bench.shots or (first.evaluation.shots,)
    findings = Findings(
        name=asked.name,
        rows=rows,
        reference=_labels(named).get(asked.bench.reference, asked.bench.reference),
        pairs=pairs_of(asked, named),
        shots=first.evaluation.shots if first.evaluation.shots in shots else shots[-1],
        fpr=first.evaluation.fpr,
        facts=_facts(asked, named),
        settings_text=folder.settings.read_text(encoding="utf-8"),
        notes=[*_notes(missed), *_shortfalls(short)],
    )
    page = write_bench_report(folder.path, findings)
    _show(findings, console)
    for path in (folder.results, folder.path / "results.md", page):
        console.print(f"{path.suffix[1:]}: {path}", markup=False, highlight=False, soft_wrap=True)
    return page


def _labels(named: Sequence[Named]) -> dict[str, str]:
    """Return the name of each system in the bench -> its name in tables and plots."""
    return {
        system.name: " ".join(filter(None, (system.experiment.method.name, system.variant)))
        for system in named
    }


def pairs_of(asked: Asked, named: Sequence[Named]) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Return the comparisons that the bench asks for.

    Raises:
        ConfigError: one of them names no system of the bench.
    """
    labels = _labels(named)

    def side(text: str) -> tuple[str, str]:
        name, _, arm = text.partition("/")
        if name not in labels:
            raise ConfigError(f"bench.pairs: no system is called {name!r}")
        return labels[name], arm or "none"

    return [(side(first), side(second)) for first, second in asked.bench.pairs]


def _facts(asked: Asked, named: Sequence[Named]) -> dict[str, str]:
    first = next(iter(asked.systems.values()))
    data = str(first.data.root) if first.data.source == "folders" else "synthetic"
    backbones = dict.fromkeys(backbone_text(one.backbone) for one in asked.systems.values())
    trained = dict.fromkeys(
        f"{one.federation.rounds} rounds of {one.federation.episodes} episodes a client"
        for one in (system.experiment for system in named if set(system.arms) & set(TRAINED))
    )
    return {
        "Data": data,
        "Systems": ", ".join(asked.systems),
        "Backbone": "; ".join(backbones),
        "Training": "; ".join(trained) or "none",
        "Seeds": f"{asked.bench.seeds} from {first.seed}",
        "Draws": f"{first.evaluation.draws} supports a site and seed",
        **environment(),
    }


def backbone_text(backbone: Backbone) -> str:
    """Return a backbone and what its weights are: a report without them cannot be repeated.

    >>> backbone_text(Backbone(name="resnet18"))
    'resnet18, weights drawn at random'
    """
    if backbone.weights is not None:
        return f"{backbone.name}, {backbone.weights.name}, sha256 {(backbone.sha256 or '')[:12]}"
    hub = "of timm's hub" if backbone.pretrained else "drawn at random"
    return f"{backbone.name}, weights {hub}"


def _notes(missed: Mapping[str, str]) -> list[str]:
    if not missed:
        return []
    some = "; ".join(f"{title}: {reason}" for title, reason in list(missed.items())[:SHOWN])
    return [f"Incomplete: {len(missed)} cells could not be measured ({some})."]


def _shortfalls(short: Sequence[str]) -> list[str]:
    return [f"Label noise: {'; '.join(short)}."] if short else []


def _show(findings: Findings, console: Console) -> None:
    """Print the means and the paired differences; a star = the interval excludes 0."""
    for panel in panels(findings.rows):
        against = panel.find(findings.reference)
        noise = f", noise {panel.noise:g}" if panel.noise else ""
        table = Table(
            title=f"{panel.protocol}, {panel.support}{noise}, {panel.backbone}",
            caption=f"{len(panel.sites)} sites; * the paired 95 % interval over sites excludes 0",
        )
        headings = ["image AUROC", "minus control"]
        headings += [f"minus {findings.reference}"] if against else []
        table.add_column("system, arm")
        for heading in headings:
            table.add_column(heading, justify="right")
        for one in panel.competitors:
            control = panel.find(one.system) if one.arm != CONTROL else None
            cells = [number(over_seeds(one).mean), _difference(control, one)]
            cells += [_difference(against, one)] if against else []
            table.add_row(one.title, *cells)
        console.print(table)


def _difference(before: Competitor | None, after: Competitor) -> str:
    if before is None or before is after:
        return ""
    interval = paired(before, after)
    return signed(interval.mean) + ("*" if interval.excludes_zero else " ")
