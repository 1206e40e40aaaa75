"""The tables of the report, as text ready for the template."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bayfed.config import FULL, Evaluation, Experiment
from bayfed.evaluation.summary import (
    CONTROL,
    TRAINED,
    SiteLine,
    arm_mean,
    draws_by_site,
    last_round,
    paired_summary,
    site_table,
)
from bayfed.evaluation.table import ResultRow
from bayfed.metrics.intervals import mean_interval

DETECTION = ("image_auroc", "image_auprc", "f1_max", "pixel_auroc", "aupro")
CALIBRATION = (
    "cover90", "cover95", "cover99", "ece", "ks", "fpr_at_threshold", "fnr_at_threshold",
)  # fmt: skip
HEADINGS = {
    "image_auroc": "Image AUROC",
    "image_auprc": "Image AUPRC",
    "f1_max": "F1 max",
    "pixel_auroc": "Pixel AUROC",
    "aupro": "AUPRO",
    "cover90": "Cover 90 %",
    "cover95": "Cover 95 %",
    "cover99": "Cover 99 %",
    "ece": "ECE",
    "ks": "KS",
    "fpr_at_threshold": "FPR",
    "fnr_at_threshold": "FNR",
    "model_bytes": "Model, kB",
    "fit_seconds": "Fit, s",
    "score_seconds": "Score, s",
}
EMPTY = "–"


@dataclass(frozen=True)
class MetricTable:
    """Site x metric, each before and after training, with means and paired intervals."""

    headings: list[str]
    body: list[tuple[str, list[tuple[str, str]]]]
    means: list[tuple[str, str]]
    differences: list[str]
    intervals: list[str]
    counts: list[int]


@dataclass(frozen=True)
class PlainTable:
    """A heading row and rows of text, the first cell of each naming it."""

    headings: list[str]
    body: list[list[str]]


def number(value: float | None, digits: int = 3) -> str:
    """Return a number for a cell, a dash where there is none.

    >>> number(0.12345), number(None)
    ('0.123', '–')
    """
    return EMPTY if value is None or math.isnan(value) else f"{value:.{digits}f}"


def metric_table(rows: Sequence[ResultRow], metrics: Iterable[str]) -> MetricTable | None:
    """Return the table of those ``metrics`` that were measured; ``None`` if none was."""
    names = [name for name in metrics if site_table(rows, name)]
    if not names:
        return None
    lines = {name: {line.site: line for line in site_table(rows, name)} for name in names}
    sites = sorted({site for by_site in lines.values() for site in by_site})
    body = [(site, [_pair(lines[name].get(site)) for name in names]) for site in sites]
    paired = [paired_summary(rows, name) for name in names]
    return MetricTable(
        headings=[HEADINGS[name] for name in names],
        body=body,
        means=[_means(lines[name].values()) for name in names],
        differences=[EMPTY if math.isnan(p.mean) else f"{p.mean:+.3f}" for p in paired],
        intervals=[
            EMPTY if math.isnan(p.low) else f"{p.low:+.3f} to {p.high:+.3f}" for p in paired
        ],
        counts=[p.n for p in paired],
    )


def _pair(line: SiteLine | None) -> tuple[str, str]:
    return (number(line.control), number(line.trained)) if line else (EMPTY, EMPTY)


def _means(lines: Iterable[SiteLine]) -> tuple[str, str]:
    known = list(lines)
    return number(arm_mean(known, "control")), number(arm_mean(known, "trained"))


def calibration_table(rows: Sequence[ResultRow], experiment: Experiment) -> PlainTable | None:
    """Return the mean calibration over sites of either arm beside its nominal value."""
    nominal = {
        "cover90": "0.900",
        "cover95": "0.950",
        "cover99": "0.990",
        "ece": "0",
        "ks": "0",
        "fpr_at_threshold": number(experiment.evaluation.fpr),
    }
    names = {
        "cover90": "Coverage at 90 %",
        "cover95": "Coverage at 95 %",
        "cover99": "Coverage at 99 %",
        "ece": "Expected calibration error",
        "ks": "Kolmogorov–Smirnov distance",
        "fpr_at_threshold": "False-positive rate at the threshold",
        "fnr_at_threshold": "False-negative rate at the threshold",
    }
    body = [
        [names[key], nominal.get(key, EMPTY), *(number(_arm_mean(rows, arm, key)) for arm in _ARMS)]
        for key in CALIBRATION
        if draws_by_site(rows, key)
    ]
    return PlainTable(["", "nominal", "control", "trained"], body) if body else None


_ARMS = (CONTROL, TRAINED)


def _arm_mean(rows: Sequence[ResultRow], arm: str, key: str) -> float:
    return mean_interval(draws_by_site(last_round(rows, arm), key)).mean


def arms_table(rows: Sequence[ResultRow]) -> PlainTable | None:
    """Return every arm at its last round, where there are others than control and trained."""
    arms = list(dict.fromkeys(row.arm for row in rows))
    if set(arms) <= set(_ARMS):
        return None
    body = []
    for arm in arms:
        mean = mean_interval(draws_by_site(last_round(rows, arm)))
        low, high = number(mean.low), number(mean.high)
        body.append([arm, number(mean.mean), f"{low} to {high}", str(mean.n)])
    return PlainTable(["arm", "mean image AUROC", "95 % interval", "sites"], body)


def cost_table(rows: Sequence[ResultRow]) -> PlainTable | None:
    """Return size and times of a fitted detector, means over sites."""
    columns = {"model_bytes": (1e-3, 1), "fit_seconds": (1.0, 3), "score_seconds": (1.0, 3)}
    shown = {key: form for key, form in columns.items() if draws_by_site(rows, key)}
    body = [
        [label, *(_scaled(_arm_mean(rows, arm, key), *form) for key, form in shown.items())]
        for label, arm in (("control", CONTROL), ("trained", TRAINED))
    ]
    return PlainTable(["", *(HEADINGS[key] for key in shown)], body) if shown else None


_ROUND_COLUMNS = {
    "loss": ("loss", 1.0, 4),
    "mean_image_auroc": ("mean AUROC", 1.0, 3),
    "bytes_up": ("up, MB", 1e-6, 3),
    "bytes_down": ("down, MB", 1e-6, 3),
    "seconds_compute": ("compute, s", 1.0, 2),
    "seconds_overhead": ("overhead, s", 1.0, 2),
    "seconds": ("total, s", 1.0, 2),
    "update_norm": ("update norm", 1.0, 4),
}


def rounds_table(rounds: Sequence[Mapping[str, Any]]) -> PlainTable | None:
    """Return one row a round: loss, AUROC, traffic, time, update norm, clients."""
    body = [
        [
            str(line["round"]),
            *(_scaled(line.get(key), scale, n) for key, (_, scale, n) in _ROUND_COLUMNS.items()),
            str(len(line.get("clients") or ())),
        ]
        for line in rounds
    ]
    headings = ["round", *(heading for heading, _, _ in _ROUND_COLUMNS.values()), "clients"]
    return PlainTable(headings, body) if body else None


def clients_table(rounds: Sequence[Mapping[str, Any]]) -> PlainTable | None:
    """Return the clients of the last round: loss, update norm, seconds."""
    clients = (rounds[-1].get("clients") or ()) if rounds else ()
    body = [
        [
            str(client["name"]),
            _scaled(client.get("loss"), 1.0, 4),
            _scaled(client.get("update_norm"), 1.0, 4),
            _scaled(client.get("seconds"), 1.0, 2),
        ]
        for client in sorted(clients, key=lambda client: str(client["name"]))
    ]
    return PlainTable(["client", "loss", "update norm", "seconds"], body) if body else None


def _scaled(value: float | None, scale: float, digits: int) -> str:
    return number(None if value is None else float(value) * scale, digits)


def settings_table(experiment: Experiment) -> dict[str, str]:
    """Return the settings that say what was run; the page also holds all of them."""
    data, method, federation = experiment.data, experiment.method, experiment.federation
    inner, server, evaluation = (
        getattr(method, "inner", None),
        federation.server,
        experiment.evaluation,
    )
    held_out = ", ".join(experiment.protocol.holdout)
    synthetic = f"synthetic, {data.synthetic.products} products"
    fraction = f"fraction {federation.fraction:g} a round"
    adaptation = f"{inner.steps} steps of {inner.lr:g}, {inner.order}" if inner else "none"
    return {
        "Method": f"{method.name}, {method.grain} grain",
        "Protocol": experiment.protocol.name + (f", held out: {held_out}" if held_out else ""),
        "Data": synthetic if data.source == "synthetic" else str(data.root),
        "Backbone": _backbone_text(experiment),
        "Inner loop": adaptation,
        "Outer loop": f"{federation.rounds} rounds × {federation.episodes} episodes a client",
        "Server": f"{server.optimizer}, rate {server.lr:g}, {server.aggregate} averaged",
        "Clients": f"one per {federation.clients.partition}, {fraction}",
        "Support": _support_text(evaluation),
        "Seed": str(experiment.seed),
    }


def privacy_table(experiment: Experiment, rounds: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what the parameters tell of a client or an image; {} where nothing is promised."""
    privacy = experiment.federation.privacy
    if privacy.level == "none":
        return {}
    spent = rounds[-1].get("epsilon") if rounds else None
    told = f"epsilon {number(spent, 3)} at delta {privacy.delta:g}"
    seeded = ", noise from the seed" if privacy.reproducible else ""
    return {"Privacy": f"of each {privacy.level}, {told}, z = {privacy.noise:g}{seeded}"}


def _support_text(evaluation: Evaluation) -> str:
    full = evaluation.shots == FULL
    images = "all good training images" if full else f"{evaluation.shots} good images"
    noise = f", {evaluation.noise:.0%} of them replaced by defects" if evaluation.noise else ""
    return f"{images}{noise}, {evaluation.draws} draws"


def _backbone_text(experiment: Experiment) -> str:
    backbone = experiment.backbone
    text = f"{backbone.name}, trainable: {backbone.trainable}"
    if backbone.weights is not None:
        content = f", sha256 {backbone.sha256}" if backbone.sha256 else ""
        return f"{text}, weights: {backbone.weights.name}{content}"
    return f"{text}, weights of timm's hub" if backbone.pretrained else text
