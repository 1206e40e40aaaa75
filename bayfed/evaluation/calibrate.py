"""Pooled calibration: what each training site adds to the common null law of image scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from bayfed.config import Evaluation
from bayfed.episodes import Pools, calibration_normals, draws_of
from bayfed.evaluation.supports import read_support
from bayfed.features import Params, StoredFeatures
from bayfed.methods import Method, Scores
from bayfed.normality import ScoreHistogram, score_histogram, standardise, support_spread
from bayfed.normality.score_histogram import BINS

SQUARE, SITES = "spread.square", "spread.sites"
DENSITY, INVERSE = "null.density", "null.inverse_count"
CHUNK = 16
"""Images scored at once; bounds the memory."""
SMALLEST_SPREAD = 1e-6
MOST_SITES = 1000
"""Of one contribution."""
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
    image has no spread and gives nothing. A site without a test has no defect for label noise.
    """
    if not pools.testing:
        settings = settings.model_copy(update={"noise": 0.0})
    owns, rests = [], []
    for draw in draws_of(pools, settings, seed):
        if len(draw.support) < SMALLEST_SUPPORT:
            return {}
        adapted = method.adapt(params, read_support(features, draw.support, method.poses))
        owns.append(method.support_scores(adapted))
        if pooled:
            normals = calibration_normals(draw.pools, settings.calibration, seed)
            rest = [i.name for i in normals if i not in draw.support]
            rests.append(image_scores(method, adapted, features, rest))
    return null_sums(rests, owns, pooled) if pooled else spread_sums(owns)


def spread_sums(owns: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return what a site's draws of ``(k,)`` leave-one-image-out scores add to the first stage."""
    squares = torch.stack([support_spread(own).double().square() for own in owns])
    return {SQUARE: squares.mean(), SITES: torch.ones(()).double()}


def null_sums(
    scores: Sequence[Tensor], owns: Sequence[Tensor], pooled: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    r"""Return what a site adds to the second stage.

    Its histogram averaged over the draws, which sums to 1, and :math:`1 / n_s` of the
    :math:`n_s` normals outside a support: an image seen in three draws is one image, and a
    site with many images no more than another. Nothing is added without such normals.

    Args:
        scores: ``(m,)`` of the normals outside the support, for each draw.
        owns: ``(k,)`` leave-one-image-out scores of the support, for each draw.
        pooled: The sums of the first stage.
    """
    spread = pooled_spread(pooled)
    counts = torch.stack(
        [
            score_histogram(standardise(rest, own, spread)).counts
            for rest, own in zip(scores, owns, strict=True)
        ]
    )
    density = counts.sum(0) / counts.sum().clamp(min=1)
    images = counts.sum() / len(counts)
    return {DENSITY: density, INVERSE: 1 / images if images > 0 else torch.zeros(()).double()}


def implausible(sums: Mapping[str, Tensor]) -> str | None:
    """Return why ``sums`` cannot be what sites add to a stage, or ``None``.

    Args:
        sums: Finite, of any names and shapes; {} adds nothing.

    >>> implausible({SQUARE: torch.tensor(2.0), SITES: torch.tensor(-1.0)})
    "tensor 'spread.sites' is negative"
    """
    for name in sorted(sums):
        if bool((sums[name] < 0).any()):
            return f"tensor {name!r} is negative"
    for name in (SITES, DENSITY, INVERSE):
        if name in sums and float(sums[name].double().sum()) > MOST_SITES:
            return f"tensor {name!r} is that of more than {MOST_SITES} sites"
    if DENSITY in sums and sums[DENSITY].shape != (BINS + 2,):
        return f"tensor {DENSITY!r} has shape {tuple(sums[DENSITY].shape)}"
    return None


def pooled_histogram(pooled: Mapping[str, Tensor]) -> ScoreHistogram | None:
    r"""Return the null law of image scores, every site of equal weight; None if nothing was pooled.

    The weighted mean of :math:`S` histograms knows as much as

    .. math:: n_\mathrm{eff} = S^2 / \sum_s n_s^{-1}

    independent scores, so the density is scaled to that many.

    Source: Kish, Survey Sampling (1965), section 11.7, for the effective sample size.

    >>> density = torch.zeros(502)
    >>> density[[200, 300]] = 1.0  # two sites, of 10 and of 40 images
    >>> law = pooled_histogram({DENSITY: density, INVERSE: torch.tensor(1 / 10 + 1 / 40)})
    >>> law.counts.sum().item()
    32.0
    """
    if DENSITY not in pooled or not bool(pooled[INVERSE] > 0):
        return None
    density = pooled[DENSITY].double()
    return ScoreHistogram(density * density.sum() / pooled[INVERSE].double())


def added(totals: Mapping[str, Tensor], sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the sum of both, tensor by tensor."""
    return {k: v + totals[k] if k in totals else v for k, v in sums.items()}


def score_all(
    score: Callable[[Tensor], Scores], features: StoredFeatures, names: Sequence[str]
) -> list[Scores]:
    """Score ``names`` in passes of ``CHUNK`` images, which bound the memory."""
    return [score(features.read(names[i : i + CHUNK])) for i in range(0, len(names), CHUNK)]


def own_scores(method: Method, adapted: object, shots: int) -> Tensor:
    """Return the scores of the support's images, none of one alone, which no other can score."""
    return method.support_scores(adapted) if shots >= SMALLEST_SUPPORT else torch.zeros(0)


def image_scores(
    method: Method, adapted: object, features: StoredFeatures, names: Sequence[str]
) -> Tensor:
    """Return the image scores of ``names``, ``(n,)``."""
    scored = score_all(partial(method.score, adapted), features, names)
    parts = [part.image for part in scored]
    return torch.cat(parts) if parts else torch.zeros(0)


def pooled_p_values(scores: Tensor, own: Tensor, pooled: Mapping[str, Tensor]) -> Tensor | None:
    """Return p-values under the pooled null law, or None where no site calibrated it."""
    law = pooled_histogram(pooled)
    if law is None:
        return None
    return law.p_value(standardise(scores, own, pooled_spread(pooled)))
