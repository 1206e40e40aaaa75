"""What a run found, in plain words: the verdict, and what the reader must know beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bayfed.config import FULL, Experiment, Shots
from bayfed.evaluation.summary import (
    arm_mean,
    draws_by_site,
    interval_text,
    paired_summary,
    site_table,
)
from bayfed.evaluation.table import ResultRow

_UNITS = {
    "new-product": "unseen products",
    "new-defect": "products with an unseen defect type",
    "standard": "products",
}
_PROTOCOLS = {
    "standard": "Standard: the whole test split of each site; training saw only its good images.",
    "new-product": "New product: these sites and their families took no part in training.",
    "new-defect": "New defect: the scored defect type took no part in training.",
}
LAWS = {
    "exact": (
        "A p-value is the survival function of the F law of an embedding's squared distance "
        "under the Student-t predictive. It is exact if good embeddings follow the model."
    ),
    "pooled": (
        "A p-value is read off the pooled scores of the training sites' good training images "
        "outside the support, those that were held back from every episode if any were, shifted "
        "and scaled by the leave-one-image-out scores of the site's own support; every training "
        "site weighs the same. No law of the model is asked to hold."
    ),
}


@dataclass(frozen=True)
class Comparison:
    """Rows that differ only in site, seed, draw, arm and round, so that they can be averaged."""

    method: str
    grain: str | None
    variant: str | None
    noise: float | None
    protocol: str
    shots: Shots
    rows: list[ResultRow] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The comparison in words."""
        parts = (self.method, self.variant, self.grain and f"{self.grain} grain")
        words = [part for part in parts if part]
        words += [self.protocol, f"{self.shots} shots" if self.shots != FULL else "full support"]
        return " · ".join(words + ([f"noise {self.noise:g}"] if self.noise else []))


def comparisons(rows: Sequence[ResultRow], experiment: Experiment) -> list[Comparison]:
    """Return the comparisons among ``rows``, that of the experiment's own settings first."""
    found: dict[tuple[Any, ...], Comparison] = {}
    for row in rows:
        shots = FULL if row.full_support else row.shots
        key = (row.method, row.grain, row.variant, row.noise, row.protocol, shots)
        found.setdefault(key, Comparison(*key)).rows.append(row)
    return sorted(found.values(), key=lambda one: _distance(one, experiment))


def _distance(one: Comparison, experiment: Experiment) -> tuple[bool, ...]:
    return (
        one.protocol != experiment.protocol.name,
        one.method != experiment.method.name,
        one.grain not in (None, experiment.method.grain),
        one.shots != experiment.evaluation.shots,
        bool(one.variant),
        bool(one.noise),
    )


def verdict(comparison: Comparison | None) -> str:
    """Return one or two sentences: before, after, and whether the interval excludes 0."""
    lines = site_table(comparison.rows) if comparison else []
    before, after = arm_mean(lines, "control"), arm_mean(lines, "trained")
    if comparison is None or before is None:
        return "Control and trained parameters were not both measured, so nothing is compared."
    unit = _UNITS.get(comparison.protocol, "products")
    if after is None:
        mean = f"Mean image AUROC over {len(lines)} {unit} is {before:.3f}."
        return f"Nothing was trained, so nothing is compared. {mean}"
    paired = paired_summary(comparison.rows)
    moved = (
        f"Training {_verb(paired.mean)} mean image AUROC over {paired.n} {unit} "
        f"from {before:.3f} to {after:.3f} ({paired.mean:+.3f})."
    )
    if math.isnan(paired.low):
        return f"{moved} One product gives no interval."
    reach = "excludes 0" if paired.excludes_zero else "does not exclude 0"
    return f"{moved} Paired 95 % interval {interval_text(paired)}: {reach}."


def _verb(difference: float) -> str:
    if round(difference, 3) == 0:
        return "left unchanged the"
    return "lifted" if difference > 0 else "lowered"


def protocol_text(name: str) -> str:
    """Return what a protocol holds back, in words."""
    return _PROTOCOLS.get(name, name)


def missing(
    comparison: Comparison | None, experiment: Experiment, rounds: int, heatmaps: int
) -> list[str]:
    """Return what the page cannot show, and why."""
    notes = []
    if comparison is not None:
        notes += _not_measured(comparison)
    if not rounds:
        notes.append("No round was run: the trained parameters are those of the start.")
    if not heatmaps and experiment.method.grain == "image":
        notes.append("No heatmaps: the image grain scores an image as a whole.")
    elif not heatmaps:
        notes.append("No heatmaps were drawn for this run.")
    return notes


def _not_measured(comparison: Comparison) -> list[str]:
    rows, notes = comparison.rows, []
    sites = {row.site for row in rows}
    blind = sorted(sites - draws_by_site(rows, "aupro").keys())
    if blind and comparison.grain == "patch":
        names = "any site" if len(blind) == len(sites) else ", ".join(blind)
        notes.append(f"No masks of {names}: pixel AUROC and AUPRO are not applicable there.")
    goodless = sorted(sites - draws_by_site(rows, "image_auroc").keys())
    if goodless:
        notes.append(f"Only one class of test images at {', '.join(goodless)}: no AUROC there.")
    if not draws_by_site(rows, "ece"):
        notes.append("No p-values were computed: calibration is not shown.")
    lines = site_table(rows)
    lonely = [line.site for line in lines if line.difference is None]
    if 0 < len(lonely) < len(lines):
        notes.append(f"Measured in one arm only, so left out of the means: {', '.join(lonely)}.")
    return notes
