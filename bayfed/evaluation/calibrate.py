"""Pooled calibration at the patch grain: what each training site adds to the common null law."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from bayfed.config import Evaluation
from bayfed.episodes import Pools, draw_support
from bayfed.evaluation.supports import read_support
from bayfed.features import Params, StoredFeatures
from bayfed.methods import Method, Scores
from bayfed.normality import ScoreHistogram, score_histogram, standardise, support_spread

SQUARE, SITES, COUNTS = "spread.square", "spread.sites", "null.counts"
CHUNK = 16
"""Images scored at once; bounds the memory."""
SMALLEST_SPREAD = 1e-6
SMALLEST_SUPPORT = 2
"""Images whose scores have a spread."""


def pooled_spread(sums: Mapping[str, Tensor]) -> float:
    """Return the root mean square of the sites' support spreads.

    >>> pooled_spread({SQUARE: torch.tensor(18.0), SITES: torch.tensor(2.0)})
    3.0
    """
    mean = float(sums[SQUARE]) / max(1.0, float(sums[SITES]))
    return max(math.sqrt(mean), SMALLEST_SPREAD)


@torch.no_grad()
def calibrate_site(
    method: Method,
    params: Params,
    pools: Pools,
    features: StoredFeatures,
    settings: Evaluation,
    seed: int,
    pooled: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return additive sums over the site's draws; only ``train/good`` is read.

    The first stage (``pooled`` empty) gives the squared spread of the support's own
    leave-one-image-out scores. The second, which knows the spread of all sites, gives the
    histogram of the standardised scores of the normals that are not in the support. One
    image has no spread and gives nothing.
    """
    if settings.shots < SMALLEST_SUPPORT:
        return {}
    totals: dict[str, Tensor] = {}
    for draw in range(settings.draws):
        support = draw_support(pools, settings.shots, seed, draw)
        adapted = method.adapt(params, read_support(features, support, method.turns))
        own = method.support_scores(adapted)
        if not pooled:
            sums = spread_sums(own)
        else:
            rest = [i.name for i in pools.train_good if i not in support]
            scores = image_scores(method, adapted, features, rest)
            sums = null_sums(scores, own, pooled)
        totals = added(totals, sums)
    return totals


def spread_sums(own: Tensor) -> dict[str, Tensor]:
    """Return what one support's leave-one-image-out scores ``(k,)`` add to the first stage."""
    return {SQUARE: support_spread(own).double().square(), SITES: torch.ones(()).double()}


def null_sums(scores: Tensor, own: Tensor, pooled: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what the scores of a site's other normals add to the second stage."""
    standard = standardise(scores, own, pooled_spread(pooled))
    return {COUNTS: score_histogram(standard).counts}


def added(totals: Mapping[str, Tensor], sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the sum of both, tensor by tensor."""
    return {k: v + totals[k] if k in totals else v for k, v in sums.items()}


def score_all(
    method: Method, adapted: object, features: StoredFeatures, names: Sequence[str]
) -> list[Scores]:
    """Score ``names`` in passes of ``CHUNK`` images, which bound the memory."""
    return [
        method.score(adapted, features.read(names[i : i + CHUNK]))
        for i in range(0, len(names), CHUNK)
    ]


def image_scores(
    method: Method, adapted: object, features: StoredFeatures, names: Sequence[str]
) -> Tensor:
    """Return the image scores of ``names``, ``(n,)``."""
    parts = [part.image for part in score_all(method, adapted, features, names)]
    return torch.cat(parts) if parts else torch.zeros(0)


def pooled_p_values(scores: Tensor, own: Tensor, pooled: Mapping[str, Tensor]) -> Tensor | None:
    """Return p-values under the pooled null law, or None where no site calibrated it."""
    if COUNTS not in pooled:
        return None
    standard = standardise(scores, own, pooled_spread(pooled))
    return ScoreHistogram(pooled[COUNTS]).p_value(standard)
