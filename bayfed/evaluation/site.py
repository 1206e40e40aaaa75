"""Evaluating a method on one site: a row of results for each draw of the support."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bayfed.config import FULL, Evaluation
from bayfed.data import SiteImage
from bayfed.episodes import Draw, Pools, draws_of, noise_of
from bayfed.evaluation.calibrate import own_scores, pooled_p_values, score_all
from bayfed.evaluation.supports import read_support
from bayfed.features import Params, StoredFeatures
from bayfed.methods import Method, Refined, Scores
from bayfed.metrics import (
    coverage,
    expected_calibration_error,
    f1_max,
    fnr_at,
    fpr_at,
    fpr_at_fnr,
    image_auprc,
    image_auroc,
    ks_uniform,
    localisation,
    scale_regions,
)
from bayfed.metrics.regions import Regions

COVERAGE = {"cover90": 0.90, "cover95": 0.95, "cover99": 0.99}


@dataclass(frozen=True)
class SiteScores:
    """Scores of a site's test images after one adaptation.

    Attributes:
        images: The test images, in the order of the scores.
        score: ``(n,)``.
        p_value: ``(n,)``, or None where no law is known.
        own: ``(k,)`` leave-one-image-out scores of the support.
        tokens: ``(n, t)`` surprise in space, or None at the image grain.
        rejected: ``(k,)`` which support images a refinement left out, or None without one.
        model_bytes: Size of the adapted detector.
        fit_seconds: Time to adapt.
        score_seconds: Mean time to score one image from its trunk output.
    """

    images: tuple[SiteImage, ...]
    score: Tensor
    p_value: Tensor | None
    own: Tensor
    tokens: Tensor | None
    rejected: NDArray[np.bool_] | None
    model_bytes: int
    fit_seconds: float
    score_seconds: float

    @property
    def defective(self) -> NDArray[np.bool_]:
        """``(n,)`` whether each image has a defect."""
        return np.array([image.defect is not None for image in self.images], dtype=bool)


@torch.no_grad()
def score_images(
    method: Method,
    params: Params,
    support: Tensor,
    images: Sequence[SiteImage],
    features: StoredFeatures,
    pooled: Mapping[str, Tensor],
) -> SiteScores:
    """Adapt to ``support`` and score ``images``."""
    started = time.perf_counter()
    adapted = method.adapt(params, support)
    seconds = time.perf_counter() - started
    own = own_scores(method, adapted, len(support) // len(method.poses))
    return score_adapted(method, adapted, images, features, pooled, own, seconds)


@torch.no_grad()
def score_adapted(
    method: Method,
    adapted: object,
    images: Sequence[SiteImage],
    features: StoredFeatures,
    pooled: Mapping[str, Tensor],
    own: Tensor,
    fit_seconds: float,
) -> SiteScores:
    """Score ``images`` with a detector that took ``fit_seconds`` to adapt.

    Args:
        method: The system.
        adapted: The detector.
        images: What is scored.
        features: Their trunk outputs.
        pooled: The pooled calibration, or nothing.
        own: ``(k,)`` leave-one-image-out scores of the support.
        fit_seconds: For the table.
    """
    started = time.perf_counter()
    names = [image.name for image in images]
    parts = score_all(partial(method.score, adapted), features, names)
    done = time.perf_counter()
    score = torch.cat([part.image for part in parts])
    tokens = [part.tokens for part in parts if part.tokens is not None]
    return SiteScores(
        images=tuple(images),
        score=score,
        p_value=_p_values(parts, own, pooled),
        own=own,
        tokens=torch.cat(tokens) if tokens else None,
        rejected=method.rejected(adapted).numpy() if isinstance(method, Refined) else None,
        model_bytes=method.size(adapted),
        fit_seconds=fit_seconds,
        score_seconds=(done - started) / max(1, len(names)),
    )


def _p_values(parts: Sequence[Scores], own: Tensor, pooled: Mapping[str, Tensor]) -> Tensor | None:
    """Return the pooled p-values, else those of the method's own law, which its model must earn."""
    scores = torch.cat([part.image for part in parts])
    found = pooled_p_values(scores, own, pooled)
    exact = [part.p_value for part in parts if part.p_value is not None]
    return torch.cat(exact) if found is None and exact else found


def evaluate_site(
    method: Method,
    params: Params,
    pools: Pools,
    features: StoredFeatures,
    settings: Evaluation,
    seed: int,
    pooled: Mapping[str, Tensor],
    image_size: int,
) -> list[dict[str, Any]]:
    """Return one row of results for each draw of the support.

    Args:
        method: The system.
        params: Its meta-parameters.
        pools: The site's images by use; the test pools are scored whole.
        features: Stored trunk outputs of all of them.
        settings: Shots, draws, label noise and the stated false-positive rate.
        seed: Of the experiment.
        pooled: Sums of :func:`bayfed.evaluation.calibrate.calibrate_site` over the training
            sites, or nothing.
        image_size: Side of the map on which localisation is measured, in pixels.

    Raises:
        ProtocolError: the site has fewer good images than shots, or no defect for the noise.
        NumericalError: a score is not finite.
    """
    rows = []
    masks = masks_of(pools, image_size) if method.localises else {}
    for draw in draws_of(pools, settings, seed):
        stored = read_support(features, draw.support, method.poses)
        scores = score_images(method, params, stored, draw.pools.testing, features, pooled)
        row = identity_columns(draw, settings) | rejection_columns(draw, scores.rejected)
        row |= detection_columns(scores) | localisation_columns(scores, masks)
        if scores.p_value is not None:
            row |= calibration_columns(scores.p_value, scores.defective, settings.fpr)
        rows.append(row)
    return rows


def identity_columns(draw: Draw, settings: Evaluation) -> dict[str, Any]:
    """Return the columns that tell one measurement of a site from another."""
    pools, full, noise = draw.pools, settings.shots == FULL, settings.noise or None
    kinds = sorted({i.defect for i in pools.test_anomalies if i.defect})
    return {
        "site": pools.site,
        "defect": kinds[0] if pools.partial and len(kinds) == 1 else None,
        "draw": draw.number,
        "shots": len(draw.support),
        "noise": noise,
        "full_support": int(full) if full else None,
        "noise_reached": noise_of(draw.support) if noise else None,
    }


def rejection_columns(draw: Draw, rejected: NDArray[np.bool_] | None) -> dict[str, float | None]:
    """Return which share of the rejected images is defective, and of the defective rejected.

    Args:
        draw: The support, with its labels.
        rejected: ``(k,)``, or None of a method that keeps what it is given.
    """
    if rejected is None:
        return {}
    defective = np.array([image.defect is not None for image in draw.support], dtype=bool)
    found = int((rejected & defective).sum())
    counts = {"reject_precision": int(rejected.sum()), "reject_recall": int(defective.sum())}
    return {name: found / count if count else None for name, count in counts.items()}


def detection_columns(scores: SiteScores) -> dict[str, float | None]:
    """Return how well the image scores separate, and what the detector costs."""
    values, defective = scores.score.double().numpy(), scores.defective
    return {
        "image_auroc": image_auroc(values, defective),
        "image_auprc": image_auprc(values, defective),
        "f1_max": f1_max(values, defective),
        "fpr_at_fnr10": fpr_at_fnr(values, defective, 0.1),
        "model_bytes": scores.model_bytes,
        "fit_seconds": scores.fit_seconds,
        "score_seconds": scores.score_seconds,
    }


def calibration_columns(
    p_value: Tensor, defective: NDArray[np.bool_], fpr: float
) -> dict[str, float | None]:
    """Return whether p-values ``(n,)`` hold what they promise at the stated rate ``fpr``."""
    p = p_value.double().numpy()
    good, bad = p[~defective], p[defective]
    row = {name: coverage(good, level) for name, level in COVERAGE.items()}
    row |= {"ece": expected_calibration_error(good), "ks": ks_uniform(good)}
    row["fpr_at_threshold"], row["fnr_at_threshold"] = fpr_at(-fpr, -good), fnr_at(-fpr, -bad)
    return row


def masks_of(pools: Pools, size: int) -> dict[str, Regions]:
    """Return the known defect regions on ``size`` x ``size`` cells; good images have none."""
    empty = np.zeros((size, size), np.int32)
    masks = {image.name: empty for image in pools.test_good}
    known = 0
    for image in pools.test_anomalies:
        mask = image.mask()
        if mask is not None:
            known += 1
            masks[image.name] = scale_regions(mask, size)
    return masks if known else {}


def upsample(tokens: Tensor, size: int) -> NDArray[np.float32]:
    """Bring ``(n, t)`` token surprises to ``(n, size, size)`` maps."""
    grid = round(tokens.shape[-1] ** 0.5)
    maps = tokens.reshape(-1, 1, grid, grid)
    resized = F.interpolate(maps, (size, size), mode="bilinear", align_corners=False)
    return resized[:, 0].float().numpy()


def localisation_columns(
    scores: SiteScores, masks: Mapping[str, Regions]
) -> dict[str, float | None]:
    """Return how well the maps find the defective pixels; {} without maps or masks."""
    if scores.tokens is None or not masks:
        return {}
    size = next(iter(masks.values())).shape[0]
    kept = [i for i, image in enumerate(scores.images) if image.name in masks]
    maps = list(upsample(scores.tokens[kept], size))
    truth = [masks[scores.images[i].name] for i in kept]
    return localisation(maps, truth)
