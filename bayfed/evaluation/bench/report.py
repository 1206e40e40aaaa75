"""The report of a bench: tables in Markdown, plots as files, and one page that shows both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from bayfed.config import FULL, Shots
from bayfed.errors import CheckpointError
from bayfed.evaluation.atomic import write_atomic
from bayfed.evaluation.bench import figures, tables
from bayfed.evaluation.bench.charts import Chart
from bayfed.evaluation.bench.compare import Panel, counted, panels, site_means
from bayfed.evaluation.bench.page import PAGE
from bayfed.evaluation.findings import protocol_text
from bayfed.evaluation.report_tables import PlainTable
from bayfed.evaluation.table import ResultRow

Named = tuple[str, str]
"""A system's label and an arm."""
READING = (
    "The mean is over sites, its interval over seeds: it says how much another seed changes the "
    "mean. Differences are paired: draws and seeds are averaged within a site, and the 95 % "
    "t-interval is over sites, which are few, so it says how far the result carries to others.",
    "The control of an arm is the same system, with the same settings, at round-0 parameters. "
    "The last round is reported, never the best one.",
    "F1 max and FPR at FNR 10 % choose their threshold on the labels they are measured on. FPR "
    "and FNR at the threshold use good images only, none of them from the test. n of them can "
    "state no rate below 1 / (n + 1): where they are too few, nothing is called defective.",
    "AUPRO is the mean covered share of the defect regions, up to a pixel false-positive rate of "
    "0.3. Pixel AUROC and AUPRO are means over the sites that have masks.",
    "Under new-product the arm local is a detector that one other factory has trained alone; the "
    "mean over those factories is shown.",
    "Times were taken while other cells ran beside, on precomputed features; the backbone is in "
    "none of them.",
)


@dataclass(frozen=True)
class Findings:
    """What a report is made of.

    Attributes:
        name: Of the bench.
        rows: All rows of its table.
        reference: Label of the system against which every other one is paired.
        pairs: Further comparisons.
        shots: Support of the panels that are shown in full.
        fpr: The stated false-positive rate.
        facts: What was run and with what, to be shown as a list.
        settings_text: The settings of each system as YAML.
        notes: What the reader must know beside it, such as cells that were not measured.
    """

    name: str
    rows: Sequence[ResultRow]
    reference: str
    pairs: Sequence[tuple[Named, Named]] = ()
    shots: Shots = 5
    fpr: float = 0.05
    facts: Mapping[str, str] = field(default_factory=dict)
    settings_text: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    title: str
    texts: list[str]
    tables: list[tuple[str, PlainTable]]
    details: list[tuple[str, PlainTable]]
    charts: list[Chart]

    @property
    def figures(self) -> list[tuple[Chart, Markup]]:
        """The plots as SVG for the page."""
        return [(chart, Markup(chart.inline())) for chart in self.charts]


def sections(findings: Findings) -> list[Section]:
    """Return a section for each protocol, backbone and noise."""
    groups: defaultdict[tuple[str, str, float], list[Panel]] = defaultdict(list)
    for panel in panels(findings.rows):
        groups[panel.protocol, panel.backbone or "", panel.noise or 0.0].append(panel)
    every = [panel for found in groups.values() for panel in found]
    return [_section(findings, found, every) for found in groups.values()]


def _by_noise(full: Panel, every: Sequence[Panel]) -> list[Panel]:
    """Return the panels that differ from ``full`` in their noise alone, if it is the cleanest."""

    def rest(panel: Panel) -> tuple[object, ...]:
        return panel.protocol, panel.backbone, panel.support

    alike = [panel for panel in every if rest(panel) == rest(full)]
    clean = min(panel.noise or 0.0 for panel in alike) == (full.noise or 0.0)
    return alike if clean else []


def _section(findings: Findings, found: Sequence[Panel], every: Sequence[Panel]) -> Section:
    full = next((panel for panel in found if _is_asked(panel, findings.shots)), found[-1])
    by_noise = _by_noise(full, every)
    noise = f", noise {full.noise:g}" if full.noise else ""
    title = f"{full.protocol}, {full.backbone}{noise}"
    charts = [
        figures.differences(full, findings.reference),
        figures.against(found, "shots"),
        figures.against(by_noise, "noise"),
        figures.wins(full),
        *figures.sweeps(full),
    ]
    named = [
        ("Image AUROC and rejection by label noise", tables.noise_table(by_noise)),
        ("Other metrics, means over sites", tables.metric_table(full)),
        ("Pairs", tables.pairs_table(full, findings.pairs)),
        (
            "Calibration on good images not used for fitting, means over sites",
            tables.calibration_table(full, findings.fpr),
        ),
    ]
    detailed = [
        (
            f"Image AUROC, {panel.support}",
            tables.main_table(panel, findings.reference),
        )
        for panel in found
        if panel is not full
    ]
    detailed.append((f"Image AUROC of each site, {full.support}", tables.sites_table(full)))
    cost = tables.cost_table(full)
    return Section(
        title=title,
        texts=[protocol_text(full.protocol), _numbers(full)],
        tables=[
            (f"Image AUROC, {full.support}", tables.main_table(full, findings.reference)),
            *((caption, table) for caption, table in named if table is not None),
        ],
        details=[*detailed, *([("A fitted detector, means over sites", cost)] if cost else [])],
        charts=[chart for chart in charts if chart is not None],
    )


def _is_asked(panel: Panel, shots: Shots) -> bool:
    return panel.full if shots == FULL else panel.shots == shots and not panel.full


def _numbers(panel: Panel) -> str:
    sites, masked = panel.sites, set[str]()
    for one in panel.competitors:
        masked |= site_means(one, "aupro").keys()
    masks = f"{len(masked)} with masks" if masked else "none with masks"
    text = (
        f"{counted(len(sites), 'site')} ({masks}), {counted(panel.seeds, 'seed')}, "
        f"{counted(panel.draws, 'draw')} of the support each."
    )
    if not panel.noise:
        return text
    return (
        f"{text} Of the images that a support is drawn from, {panel.noise:.0%} are defects, which "
        "left the test, or as many as a site can spare; the federation trained without them."
    )


def render_markdown(findings: Findings, parts: Sequence[Section]) -> str:
    """Return the report in Markdown, its plots as links to ``plots/``."""
    lines = [f"# {findings.name}", ""]
    for part in parts:
        lines += [f"## {part.title}", "", *_paragraphs(part.texts)]
        for caption, table in part.tables:
            lines += [f"### {caption}", "", tables.markdown(table), ""]
        for chart in part.charts:
            lines += [f"![{chart.title}](plots/{chart.name}.png)", ""]
            lines += [f"*{chart.title}.* {chart.caption}", ""]
        for caption, table in part.details:
            lines += [f"### {caption}", "", tables.markdown(table), ""]
    lines += ["## What was run", "", *(f"- {key}: {text}" for key, text in findings.facts.items())]
    lines += ["", "## How to read this", ""]
    lines += [f"- {note}" for note in (*findings.notes, *READING)]
    return "\n".join(lines) + "\n"


def _paragraphs(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in (text, "")]


def render_page(findings: Findings, parts: Sequence[Section]) -> str:
    """Return the report as one HTML page that needs nothing outside itself."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(PAGE).render(
        name=findings.name,
        summary=list(findings.notes),
        sections=parts,
        facts_of=findings.facts,
        settings_text=findings.settings_text,
        notes=list(READING),
    )


def write_bench_report(folder: Path, findings: Findings) -> Path:
    """Write ``report.html``, ``results.md`` and ``plots/`` and return the path of the page.

    Raises:
        CheckpointError: a file cannot be written.
    """
    parts = sections(findings)
    page = folder / "report.html"
    try:
        (folder / "plots").mkdir(parents=True, exist_ok=True)
        for chart in (chart for part in parts for chart in part.charts):
            for kind in ("png", "svg"):
                write_atomic(folder / "plots" / f"{chart.name}.{kind}", chart.file(kind))
        write_atomic(folder / "results.md", render_markdown(findings, parts).encode())
        write_atomic(page, render_page(findings, parts).encode("utf-8", errors="replace"))
    except OSError as error:
        raise CheckpointError(f"{folder}: {error.strerror or error}") from error
    return page
