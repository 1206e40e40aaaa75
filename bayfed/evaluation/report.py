"""The report of a run: one HTML page that needs nothing outside itself."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from bayfed.config import FULL, Experiment, dump_experiment
from bayfed.errors import CheckpointError
from bayfed.evaluation import findings, plots
from bayfed.evaluation import report_tables as tables
from bayfed.evaluation.atomic import write_atomic
from bayfed.evaluation.calibrate import SMALLEST_SUPPORT
from bayfed.evaluation.colours import ColourScale
from bayfed.evaluation.heatmaps import HeatmapCase, heatmap_panel
from bayfed.evaluation.page import PAGE
from bayfed.evaluation.summary import paired_summary, site_table
from bayfed.evaluation.table import ResultRow

MAX_BYTES = 4 * 1024 * 1024
_GALLERY_BYTES = 3 * 1024 * 1024
_ROUNDS = 400
"""Rounds that charts and table hold at most."""


@dataclass(frozen=True)
class Report:
    """What a page shows.

    ``rounds`` are the lines of ``metrics.jsonl``; ``environment`` holds what the run was
    made with (versions, machine, content hash), in the order to be shown; ``law`` says which
    law the p-values follow, if it is not the usual one of the method; ``notes`` are further
    remarks of the caller.
    """

    experiment: Experiment
    rows: Sequence[ResultRow]
    rounds: Sequence[Mapping[str, Any]] = ()
    heatmaps: Sequence[HeatmapCase] = ()
    scale: ColourScale | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    law: str = ""
    notes: Sequence[str] = ()


def render_report(report: Report) -> str:
    """Return the page as HTML text."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(PAGE).render(_context(report))


def write_report(path: Path, report: Report) -> None:
    """Write the page to ``path``, as a whole or not at all.

    Raises:
        CheckpointError: the file cannot be written, or would be larger than 4 MB.
    """
    page = render_report(report).encode("utf-8", errors="replace")
    if len(page) > MAX_BYTES:
        raise CheckpointError(f"{path}: the report would be {len(page)} bytes")
    try:
        write_atomic(path, page)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error


def _context(report: Report) -> dict[str, Any]:
    compared = findings.comparisons(report.rows, report.experiment)
    first = compared[0] if compared else None
    gallery = _gallery(report)
    left_out = len(report.heatmaps) - len(gallery)
    method, shots = report.experiment.method, report.experiment.evaluation.shots
    exact = method.has_law and shots != FULL and shots < SMALLEST_SUPPORT
    notes = findings.missing(first, report.experiment, len(report.rounds), len(gallery))
    if left_out:
        notes.append(f"{left_out} heatmaps were left out to keep this page below 4 MB.")
    rounds, step = _thinned(report.rounds)
    if step > 1:
        notes.append(f"Charts and table of the rounds show one round in {step}, and the last.")
    return {
        "experiment": report.experiment,
        "settings": tables.settings_table(report.experiment)
        | tables.privacy_table(report.experiment, report.rounds),
        "settings_text": dump_experiment(report.experiment),
        "environment": report.environment,
        "verdict": findings.verdict(first),
        "outcome": _outcome(first),
        "comparisons": [_comparison(one, report.experiment) for one in compared],
        "curves": _curves(rounds),
        "rounds": tables.rounds_table(rounds),
        "clients": tables.clients_table(report.rounds),
        "gallery": gallery,
        "colour_bar": Markup(plots.colour_bar(report.scale)) if report.scale else "",
        "law": report.law or findings.LAWS["exact" if exact else "pooled"],
        "notes": [*notes, *report.notes],
    }


def _outcome(first: findings.Comparison | None) -> str:
    paired = paired_summary(first.rows) if first else None
    if paired is None or not paired.excludes_zero:
        return "open"
    return "better" if paired.low > 0 else "worse"


def _comparison(one: findings.Comparison, experiment: Experiment) -> dict[str, Any]:
    lines = site_table(one.rows)
    return {
        "title": one.title,
        "protocol": findings.protocol_text(one.protocol),
        "detection": tables.metric_table(one.rows, tables.DETECTION),
        "calibration": tables.calibration_table(one.rows, experiment),
        "calibration_sites": tables.metric_table(one.rows, tables.CALIBRATION),
        "arms": tables.arms_table(one.rows),
        "cost": tables.cost_table(one.rows),
        "dumbbell": Markup(plots.dumbbell(lines)) if lines else "",
    }


def _curves(rounds: Sequence[Mapping[str, Any]]) -> list[tuple[str, Markup]]:
    charts = (
        ("Loss", "loss", plots.loss_curve),
        ("Detection on evaluated sites", "mean_image_auroc", plots.auroc_curve),
        ("Communication, all clients together", "bytes_up", plots.bytes_curve),
        ("Time", "seconds_compute", plots.seconds_curve),
    )
    return [
        (title, Markup(draw(rounds)))
        for title, key, draw in charts
        if any(line.get(key) is not None for line in rounds)
    ]


def _thinned(rounds: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], int]:
    step = -(-len(rounds) // _ROUNDS)
    if step <= 1:
        return list(rounds), 1
    kept = [line for i, line in enumerate(rounds[:-1]) if i % step == 0]
    return [*kept, rounds[-1]], step


def _gallery(report: Report) -> list[dict[str, Any]]:
    """Encode cases until the page would grow too large."""
    if report.scale is None:
        return []
    cards, size = [], 0
    for case in report.heatmaps:
        panel = heatmap_panel(case, report.scale)
        images = [
            ("picture", "Picture", _data_uri(panel.picture)),
            ("surprise map", "Surprise", _data_uri(panel.overlay)),
        ]
        if panel.outline is not None and case.defect is not None:
            images.append(("outline of the true defect", "True defect", _data_uri(panel.outline)))
        size += sum(len(uri) for _, _, uri in images)
        if size > _GALLERY_BYTES:
            break
        cards.append({"case": case, "images": images, "caption": _caption(case)})
    return cards


def _caption(case: HeatmapCase) -> list[str]:
    p_value = "" if case.p_value is None else f"p {case.p_value:.2g}"
    decision = "" if case.decision is None else f"called {case.decision}"
    return [text for text in (f"score {case.score:.2f}", p_value, decision) if text]


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
