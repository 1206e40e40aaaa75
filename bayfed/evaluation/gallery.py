"""Test images of a few sites with their surprise maps, all on one calibrated scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bayfed.config import Experiment
from bayfed.data import Site, SiteImage
from bayfed.data.turned import posed
from bayfed.episodes import Pools, draw_of, training_pools
from bayfed.errors import ProtocolError
from bayfed.evaluation.calibrate import SMALLEST_SPREAD, SQUARE, pooled_histogram, pooled_spread
from bayfed.evaluation.checkpoint import Snapshot
from bayfed.evaluation.colours import ColourScale
from bayfed.evaluation.heatmaps import HeatmapCase
from bayfed.evaluation.supports import read_support
from bayfed.evaluation.system import System, build_system, checked
from bayfed.features import Params
from bayfed.normality import standardise, support_spread
from bayfed.seeds import stream

GOOD, DEFECTIVE = 1, 2
"""Images shown of a site."""
NORMALS = 16
"""Held-out training normals of a site from which the dark end of the scale is taken."""
DARK = 0.95
"""Fraction of the tokens of held-out normals that are as dark as the scale goes."""
THRESHOLD_AT = 0.5
"""Where on the scale the threshold lies."""
WITHOUT_THRESHOLD = 0.999
"""Quantile of the same tokens that stands in for the threshold where none is known."""


@dataclass(frozen=True)
class Gallery:
    """Images with their maps, and the one scale on which they are drawn."""

    cases: tuple[HeatmapCase, ...] = ()
    scale: ColourScale | None = None


@dataclass(frozen=True)
class _Shown:
    """A site's chosen images and their standardised surprise."""

    site: str
    images: tuple[SiteImage, ...]
    tokens: Tensor
    scores: Tensor
    normal_tokens: Tensor


def draw_gallery(
    experiment: Experiment,
    snapshot: Snapshot,
    sites: Sequence[Site],
    view: Callable[[Pools], Pools] = lambda pools: pools,
) -> Gallery:
    r"""Score a few test images of a few sites with the parameters of ``snapshot``.

    Sites and images are drawn by the seed, never by their scores; sites with masks come
    first. Token surprises :math:`a` are standardised as image scores are,

    .. math:: t = (a - \operatorname{median}_i a_i) / s

    with :math:`a_i` the leave-one-image-out scores of the site's support and :math:`s` their
    spread, shrunk to that of the training sites. An image score is a mean of its highest
    token surprises, so the image threshold at the stated false-positive rate is one level of
    :math:`t`, the same at every site. The dark end is the ``DARK`` quantile over tokens of
    good images that are neither in the support nor shown; the threshold lies at
    ``THRESHOLD_AT`` of the scale.

    Args:
        experiment: The settings of the run.
        snapshot: Of its parameters.
        sites: To choose from.
        view: What its factory makes of a site.

    Returns:
        Nothing at the image grain, or if no site has test images.

    Raises:
        BayfedError: an image, the weights or the checkpoint is at fault.
    """
    system = build_system(experiment)
    if not system.method.localises or not experiment.evaluation.heatmaps:
        return Gallery()
    pools = [view(training_pools(s, experiment.protocol, (), experiment.seed)) for s in sites]
    chosen = choose_sites(pools, experiment.evaluation.heatmaps, experiment.seed)
    pooled = snapshot.calibration
    learned = checked(snapshot, system.method, experiment.seed)
    shown = [
        _show(system, learned.theta_of(site.site), site, experiment, pooled) for site in chosen
    ]
    if not shown:
        return Gallery()
    fpr = experiment.evaluation.fpr
    scale = colour_scale(
        torch.cat([one.normal_tokens.flatten() for one in shown]), threshold(pooled, fpr)
    )
    cases = [case for one in shown for case in _cases(one, pooled, fpr)]
    return Gallery(tuple(cases), scale)


def choose_sites(pools: Sequence[Pools], number: int, seed: int) -> list[Pools]:
    """Return ``number`` sites with test images, drawn by the seed, those with masks first."""
    order = stream(seed, "gallery").permutation(len(pools))
    scored = [pools[i] for i in order if pools[i].testing]
    scored.sort(key=_has_no_mask)
    return sorted(scored[:number], key=lambda site: site.site)


def _has_no_mask(pools: Pools) -> bool:
    return not any(image.mask() is not None for image in pools.test_anomalies[:1])


def choose_images(pools: Pools, seed: int) -> tuple[SiteImage, ...]:
    """Return a good image and two defects of the test pool, drawn by the seed."""
    random = stream(seed, "gallery", pools.site)
    picked: list[SiteImage] = []
    for images, number in ((pools.test_good, GOOD), (pools.test_anomalies, DEFECTIVE)):
        picked += [images[i] for i in random.permutation(len(images))[:number]]
    return tuple(picked)


def threshold(pooled: Mapping[str, Tensor], fpr: float) -> float | None:
    """Return the standardised score that a share ``fpr`` of good images reaches.

    None where no site calibrated it, or where too few images did for so low a rate.
    """
    law = pooled_histogram(pooled)
    try:
        return None if law is None else law.quantile(fpr)
    except ProtocolError:
        return None


def colour_scale(normal_tokens: Tensor, level: float | None) -> ColourScale:
    """Return the scale whose dark end holds ``DARK`` of the tokens of good images.

    >>> colour_scale(torch.linspace(0, 1, 101), 2.95)
    ColourScale(low=0.95, high=4.95, threshold=2.95)
    """
    values = normal_tokens.double().numpy()
    middle = float(np.quantile(values, WITHOUT_THRESHOLD)) if level is None else level
    return scale_at(float(np.quantile(values, DARK)), middle, level)


def scale_at(low: float, middle: float, level: float | None) -> ColourScale:
    """Return the scale from ``low`` on that has ``middle`` at ``THRESHOLD_AT``.

    >>> scale_at(1.0, 3.0, 3.0)
    ColourScale(low=1.0, high=5.0, threshold=3.0)
    """
    if middle <= low:
        # What is shown is stranger than what calibrated the threshold.
        low = middle - 1.0
    high = low + (middle - low) / THRESHOLD_AT
    return ColourScale(round(low, 3), round(high, 3), None if level is None else round(level, 3))


@torch.no_grad()
def _show(
    system: System,
    theta: Params,
    pools: Pools,
    experiment: Experiment,
    pooled: Mapping[str, Tensor],
) -> _Shown:
    draw = draw_of(pools, experiment.evaluation, experiment.seed, 0)
    pools, support = draw.pools, draw.support
    taken = {image.name for image in support}
    normals = [i for i in pools.train_good if i.name not in taken and not i.defect][:NORMALS]
    images = choose_images(pools, experiment.seed)
    poses = system.method.poses
    features = system.store.open((*posed(support, poses), *normals, *images))

    adapted = system.method.adapt(theta, read_support(features, support, poses))
    own = system.method.support_scores(adapted)
    spread = max(float(support_spread(own)), SMALLEST_SPREAD)
    if SQUARE in pooled:
        spread = pooled_spread(pooled)

    def scored(some: Sequence[SiteImage]) -> tuple[Tensor, Tensor]:
        result = system.method.score(adapted, features.read([image.name for image in some]))
        if result.tokens is None:
            raise ProtocolError(f"{system.method.name} gives no maps")
        return standardise(result.tokens, own, spread), standardise(result.image, own, spread)

    tokens, scores = scored(images)
    return _Shown(pools.site, images, tokens, scores, scored(normals or support)[0])


def _cases(shown: _Shown, pooled: Mapping[str, Tensor], fpr: float) -> list[HeatmapCase]:
    law = pooled_histogram(pooled)
    cases = []
    for image, tokens, score in zip(shown.images, shown.tokens, shown.scores, strict=True):
        pixels = image.pixels()
        p_value = None if law is None else float(law.p_value(score))
        cases.append(
            HeatmapCase(
                site=shown.site,
                defect=image.defect,
                image=pixels,
                surprise=_upsampled(tokens, pixels.shape[:2]),
                mask=image.mask(),
                score=float(score),
                p_value=p_value,
                decision=None if p_value is None else _decision(p_value, fpr),
            )
        )
    return cases


def _decision(p_value: float, fpr: float) -> str:
    return "defective" if p_value <= fpr else "good"


def _upsampled(tokens: Tensor, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Bring ``(t,)`` tokens of the squashed picture back to the picture's ``(H, W)``."""
    side = round(tokens.shape[-1] ** 0.5)
    maps = tokens.reshape(1, 1, side, side).float()
    resized = F.interpolate(maps, tuple(shape), mode="bilinear", align_corners=False)
    return resized[0, 0].numpy()
