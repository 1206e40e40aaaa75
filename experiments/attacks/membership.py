"""Was an image among those that an update was computed from?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from bayfed.data import SiteImage
from bayfed.episodes.episode import EpisodeBatch, stack
from bayfed.errors import DataError
from bayfed.features import Params
from bayfed.seeds import stream
from experiments.attacks.plant import Plant, Vector

Scores = NDArray[np.float64]
EPISODES = 10
RATE = 0.01
"""Of false alarms, at which the found members are counted."""


@dataclass(frozen=True)
class Shadows:
    """Draws of a plant's images and what it would have sent.

    Attributes:
        members: ``(draws, images)``, which images the plant had.
        gradients: ``(draws, episodes, parameters)``.
        candidates: ``(images, parameters)``, what each image alone does to a gradient.
        repeats: Most episodes of a draw in which one image took part.
    """

    members: NDArray[np.bool_]
    gradients: NDArray[np.float32]
    candidates: NDArray[np.float32]
    repeats: int


@dataclass(frozen=True)
class Found:
    """How well members are told from others: without and with the shadows' own scores."""

    auc: float
    auc_shadows: float
    share_at_rate: float


def shadows(plant: Plant, params: Params, images: int, draws: int, seed: int) -> Shadows:
    """Draw half of ``images`` candidates as members, ``draws`` times, and compute an update."""
    good = plant.pools.train_good
    candidates, known = good[:images], good[images:]
    names = {image.name for image in candidates}
    defects = [d for d in plant.pools.train_anomalies if d.base not in names]
    random = stream(seed, "members", plant.pools.site)
    members = np.stack([random.permutation(images) < images // 2 for _ in range(draws)])
    gradients, repeats = [], 0
    for draw, chosen in enumerate(members):
        own = [image for image, is_in in zip(candidates, chosen, strict=True) if is_in]
        sampler = plant.sampler(own, defects)
        episodes = stream(seed, "attacked", plant.pools.site, draw)
        again = stream(seed, "attacked", plant.pools.site, draw)
        batches = [sampler.episode(episodes) for _ in range(EPISODES)]
        drawn = [sampler.images(again) for _ in range(EPISODES)]
        repeats = max(repeats, *(sum(i.name in one for one in drawn) for i in own))
        gradients.append(np.stack([plant.gradient(params, batch) for batch in batches]))
    alone = np.stack(_alone(plant, params, candidates, known, defects, seed))
    return Shadows(members, np.stack(gradients), alone - alone.mean(0), repeats)


def _alone(
    plant: Plant,
    params: Params,
    candidates: Sequence[SiteImage],
    known: Sequence[SiteImage],
    defects: Sequence[SiteImage],
    seed: int,
) -> list[Vector]:
    """Return the gradients of an episode of known images with a candidate in each role."""
    settings = plant.experiment.episode
    known = known[: settings.shots + settings.normals]
    names = {image.name for image in known}
    defects = [defect for defect in defects if defect.base not in names]
    base = plant.sampler(known, defects).episode(stream(seed, "known"))
    found = []
    for image in candidates:
        # alike but for one picture, wherever the stream puts the first of the list
        one = plant.sampler([image, *known[1:]], defects).episode(stream(seed, "known"))
        picture = _changed(one.support[0], base.support[0])
        if picture is None:
            picture = _changed(one.query[0], base.query[0])
        found.append(plant.gradient(params, _with(base, picture)))
    return found


def _changed(new: torch.Tensor, old: torch.Tensor) -> torch.Tensor | None:
    changed = (new != old).flatten(1).any(1)
    return new[int(changed.float().argmax())] if bool(changed.any()) else None


def _with(base: EpisodeBatch, picture: torch.Tensor | None) -> EpisodeBatch:
    """Return two episodes: the picture among the supports, and among the good queries."""
    support, query = base.support.clone(), base.query.clone()
    if picture is None:
        raise DataError("a candidate looks like the known image that it takes the place of")
    support[0, 0], query[0, 0] = picture, picture
    return stack([replace(base, support=support), replace(base, query=query)])


def updates(shadows: Shadows, clip: float | None, noise: float, seed: int) -> NDArray[np.float32]:
    """Return what each draw sends: the mean gradient, of clipped ones with noise if asked for."""
    gradients, number = shadows.gradients, shadows.gradients.shape[1]
    if clip is None:
        mean: NDArray[np.float32] = gradients.mean(1)
        return mean
    lengths = np.linalg.norm(gradients, axis=-1, keepdims=True)
    total = (gradients * np.minimum(1, clip / np.maximum(lengths, 1e-12))).sum(1)
    drawn = stream(seed, "noise of updates").standard_normal(total.shape)
    noised: NDArray[np.float32] = ((total + noise * clip * drawn) / number).astype(np.float32)
    return noised


def attack(shadows: Shadows, sent: NDArray[np.float32]) -> Found:
    r"""Score each image by the cosine of the update and of what the image does to a gradient.

    With the shadows' scores it is a likelihood ratio of two normal laws an image, with the scores
    of the other draws where it was a member and where it was not (Carlini et al., Membership
    Inference Attacks From First Principles, 2022, algorithm 1, with one variance).
    """
    mean = sent.mean(0)
    own = shadows.candidates / np.linalg.norm(shadows.candidates, axis=1, keepdims=True)
    centred = sent - mean
    scores = (centred / np.linalg.norm(centred, axis=1, keepdims=True)) @ own.T
    labels = shadows.members.ravel()
    ratios = _ratios(scores.astype(np.float64), shadows.members)
    rates, shares, _ = roc_curve(labels, ratios.ravel())
    at = float(shares[rates <= RATE].max())
    return Found(
        float(roc_auc_score(labels, scores.ravel())),
        float(roc_auc_score(labels, ratios.ravel())),
        at,
    )


def _ratios(scores: Scores, members: NDArray[np.bool_]) -> Scores:
    ratios = np.zeros_like(scores)
    for draw in range(len(scores)):
        others = np.arange(len(scores)) != draw
        inside, outside = (
            np.ma.masked_array(scores[others], mask=~chosen)
            for chosen in (members[others], ~members[others])
        )
        variance = 0.5 * (inside.var(0).mean() + outside.var(0).mean()) + 1e-12
        gap = inside.mean(0).filled(0.0) - outside.mean(0).filled(0.0)
        middle = 0.5 * (inside.mean(0).filled(0.0) + outside.mean(0).filled(0.0))
        ratios[draw] = gap * (scores[draw] - middle) / variance
    return ratios
