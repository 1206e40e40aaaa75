"""Promised and realised rates of false alarms on real sites, for each kind of threshold.

    python -m experiments.benchmarks.promises --data DIR --weights FILE

A product is fitted to each draw of a site's support, at round-0 parameters. The pooled law of a
site comes from all sites of other families; ``split`` calibrates with good training images beside
the support; test images measure, and only that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from torch import Tensor

from bayfed.config import Evaluation, Experiment
from bayfed.data import load_sites
from bayfed.data.turned import posed
from bayfed.episodes import draws_of
from bayfed.episodes.protocols import unseen_pools
from bayfed.errors import BayfedError
from bayfed.evaluation.calibrate import SMALLEST_SUPPORT, added, null_sums, score_all, spread_sums
from bayfed.evaluation.supports import read_support
from bayfed.evaluation.system import build_system
from bayfed.features import StoredFeatures
from bayfed.inference.decide import decide, share_of_parameters
from bayfed.inference.inspection import Decision
from bayfed.methods import Scores
from bayfed.methods.base import KeptMethod, Spread
from bayfed.metrics import Interval, mean_interval
from bayfed.product.calibration import Calibration
from bayfed.product.source import build, from_backbone
from bayfed.product.thresholds import Kind
from experiments.benchmarks.measure import print_machine, print_table, wide_console

BESIDE = 40
"""Good images with which ``split`` calibrates."""
PROMISES = (
    (Kind.MODEL, 0.05), (Kind.MODEL, 0.01), (Kind.POOLED, 0.05), (Kind.POOLED, 0.01),
    (Kind.SPLIT, 0.05), (Kind.JACKKNIFE, 0.2), (Kind.FENCE, 0.05),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Measured:
    """One support of one site, and what the detector fitted to it says."""

    site: str
    family: str
    own: Tensor
    beside: Tensor
    good: Scores
    defects: Scores
    spoilt: Tensor
    """``own`` with a defect in the place of the last image."""


def main(
    data: Annotated[Path, typer.Option(help="Folder of sites.")],
    weights: Annotated[Path, typer.Option(help="Weights of the backbone.")],
    backbone: Annotated[str, typer.Option(help="Its name.")] = "mobilenetv2_100",
    sites: Annotated[str, typer.Option(help="Names of sites; otherwise those with enough.")] = "",
    shots: Annotated[int, typer.Option(help="Good images of a support.")] = 5,
    draws: Annotated[int, typer.Option(help="Supports of a site.")] = 5,
    store: Annotated[Path | None, typer.Option(help="Folder of stored features.")] = None,
) -> None:
    """Measure what thresholds promise."""
    console = wide_console()
    print_machine(console)
    try:
        experiment = settings_of(backbone, weights, data, store)
        found = list(measure(experiment, tuple(filter(None, sites.split(","))), shots, draws))
    except BayfedError as error:
        console.print(f"error: {error}", markup=False)
        raise typer.Exit(2) from None
    report(console, found, shots)


def settings_of(backbone: str, weights: Path, data: Path, store: Path | None) -> Experiment:
    """Return the settings of a product on a backbone, with a folder of sites."""
    tree = from_backbone(backbone, weights).experiment.model_dump()
    tree["data"] = {"source": "folders", "root": data}
    tree["store"]["directory"] = store
    return Experiment.model_validate(tree)


@torch.no_grad()
def measure(
    experiment: Experiment, wanted: Sequence[str], shots: int, draws: int
) -> Iterator[Measured]:
    """Yield what each draw of each site gives."""
    method, store = build(experiment).method, build_system(experiment).store
    params = method.initial(experiment.seed)
    for site in load_sites(experiment.data, experiment.seed):
        if site.name not in wanted if wanted else len(site.train_good) < shots + BESIDE:
            continue
        pools = unseen_pools(site)
        settings = Evaluation(shots=shots, draws=draws)
        for draw in draws_of(pools, settings, experiment.seed):
            taken = {image.name for image in draw.support}
            beside = [image for image in pools.train_good if image.name not in taken][:BESIDE]
            defect = pools.test_anomalies[draw.number % len(pools.test_anomalies)]
            pictures = posed((*draw.support, defect), method.poses)
            features = store.open((*pictures, *beside, *pools.testing))
            adapted = method.adapt(params, read_support(features, draw.support, method.poses))
            swapped = (*draw.support[:-1], defect)
            other = method.adapt(params, read_support(features, swapped, method.poses))
            scored = [
                scores_of(method, adapted, features, [image.name for image in images])
                for images in (beside, pools.test_good, pools.test_anomalies)
            ]
            yield Measured(
                site.name, site.family, method.support_scores(adapted), scored[0].image,
                scored[1], scored[2], method.support_scores(other),
            )  # fmt: skip


def scores_of(
    method: KeptMethod, adapted: object, features: StoredFeatures, names: Sequence[str]
) -> Scores:
    """Return the scores of images and their spread, in passes that bound the memory."""
    parts = score_all(partial(method.score, adapted, spread=True), features, names)
    spreads = [part.spread for part in parts if part.spread is not None]
    spread = Spread(*(torch.cat(one) for one in zip(*spreads, strict=True)))
    return Scores(torch.cat([part.image for part in parts]), None, None, None, spread)


def pooled_of(found: Sequence[Measured], family: str) -> dict[str, Tensor]:
    """Return the pooled calibration of all sites but those of ``family``."""
    sites: dict[str, list[Measured]] = {}
    for one in found:
        if one.family != family and len(one.own) >= SMALLEST_SUPPORT:
            sites.setdefault(one.site, []).append(one)
    totals: dict[str, Tensor] = {}
    for group in sites.values():
        totals = added(totals, spread_sums([one.own for one in group]))
    sums: dict[str, Tensor] = {}
    for group in sites.values():
        owns, beside = [one.own for one in group], [one.beside for one in group]
        sums = added(sums, null_sums(beside, owns, totals))
    return totals | sums


@dataclass(frozen=True)
class Outcome:
    """Shares of one draw under one threshold."""

    alarms: float
    escapes: float
    good_review: float
    bad_review: float
    good_alarms: float
    """Good parts called defective without a review."""
    bad_passed: float
    """Defects called good without a review."""


def outcome(one: Measured, calibration: Calibration, kind: Kind, fpr: float) -> Outcome:
    """Return what a threshold does to the test images."""
    threshold = calibration.threshold(kind, fpr).value
    good, bad = (decisions(scores, threshold) for scores in (one.good, one.defects))
    return Outcome(
        float((one.good.image > threshold).double().mean()),
        float((one.defects.image <= threshold).double().mean()),
        good[Decision.REVIEW], bad[Decision.REVIEW], good[Decision.DEFECT], bad[Decision.OK],
    )  # fmt: skip


def decisions(scores: Scores, threshold: float) -> dict[Decision, float]:
    """Return the share of each decision."""
    variance = scores.spread.parameters if scores.spread else torch.zeros_like(scores.image)
    pairs = zip(scores.image.tolist(), variance.tolist(), strict=True)
    made = [decide(score, threshold, spread) for score, spread in pairs]
    return {kind: made.count(kind) / len(made) for kind in Decision}


def report(console: Console, found: Sequence[Measured], shots: int) -> None:
    """Print the tables."""
    rows, reviews = [], []
    pooled = {family: pooled_of(found, family) for family in {one.family for one in found}}
    for kind, fpr in PROMISES:
        outcomes: dict[str, list[Outcome]] = {}
        try:
            for one in found:
                calibration = Calibration(
                    one.own.double().numpy(),
                    one.beside.double().numpy() if kind is Kind.SPLIT else np.empty(0),
                    pooled[one.family],
                    shots,
                )
                outcomes.setdefault(one.site, []).append(outcome(one, calibration, kind, fpr))
        except BayfedError as error:
            console.print(f"{kind} {fpr:g}: {error}", markup=False)
            continue
        rows.append(promise_row(kind, fpr, outcomes))
        reviews.append(review_row(kind, fpr, outcomes))
    number = len({one.site for one in found})
    title = f"{number} sites, {shots} supports, {len(found)} draws; mean [95 % over sites]"
    headings = ("threshold", "promised", "realised", "lowest, highest site", "escapes")
    print_table(console, title, headings, rows)
    headings = ("threshold", "good to review", "defects to review", "false alarms", "escapes")
    print_table(console, "what is left where a person reviews", headings, reviews)
    print_suspects(console, found, pooled)
    print_epistemic(console, found)


def over(outcomes: Mapping[str, Sequence[Outcome]], name: str) -> Interval:
    """Return the mean of a share over sites."""
    return mean_interval({s: [getattr(o, name) for o in many] for s, many in outcomes.items()})


def text(interval: Interval) -> str:
    """Return an interval of shares in percent."""
    return f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}] %"


def promise_row(
    kind: Kind, fpr: float, outcomes: Mapping[str, Sequence[Outcome]]
) -> tuple[str, ...]:
    """Return the row of a threshold: what it promised, and what came of it."""
    means = [float(np.mean([one.alarms for one in many])) for many in outcomes.values()]
    return (
        kind.value,
        "none" if kind is Kind.FENCE else f"{100 * fpr:g} %",
        text(over(outcomes, "alarms")),
        f"{100 * min(means):.1f}, {100 * max(means):.1f} %",
        text(over(outcomes, "escapes")),
    )


def review_row(
    kind: Kind, fpr: float, outcomes: Mapping[str, Sequence[Outcome]]
) -> tuple[str, ...]:
    """Return the row of a threshold where doubtful parts go to a person who is always right."""
    names = ("good_review", "bad_review", "good_alarms", "bad_passed")
    return (f"{kind.value} {100 * fpr:g} %", *(text(over(outcomes, name)) for name in names))


def print_suspects(
    console: Console, found: Sequence[Measured], pooled: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Print how often a defect in a support is noticed, and a good support suspected."""
    last = len(found[0].own) - 1
    for title, sums in (("alone", {}), ("with the spread at other products", pooled)):
        known = [
            Calibration(one.own.double().numpy(), pooled=sums.get(one.family, {})) for one in found
        ]
        wrong = np.mean([bool(c.suspects()) for c in known])
        spoilt = [
            replace(c, own=one.spoilt.double().numpy()) for c, one in zip(known, found, strict=True)
        ]
        right = np.mean([c.suspects() == [last] for c in spoilt])
        console.print(
            f"{title}: a defect among the supports is noticed in {100 * right:.0f} % of the draws, "
            f"supports of good images are suspected in {100 * wrong:.0f} %"
        )


def print_epistemic(console: Console, found: Sequence[Measured]) -> None:
    """Print how much of the uncertainty comes from the few supports."""
    shares = [
        share_of_parameters(a, b)
        for one in found
        if one.good.spread is not None
        for a, b in zip(*(part.tolist() for part in one.good.spread), strict=True)
    ]
    console.print(f"epistemic share of good test images: median {np.median(shares):.2f}")


if __name__ == "__main__":
    typer.run(main)
