"""Good images that no episode sees, so that p-values can be read off their scores."""

from __future__ import annotations

from dataclasses import replace

from bayfed.data import SiteImage
from bayfed.episodes.pools import Pools
from bayfed.seeds import stream


def held_back(pools: Pools, share: float, seed: int) -> tuple[SiteImage, ...]:
    """Draw the ``share`` of train/good that training leaves alone."""
    number = int(share * len(pools.train_good))
    order = stream(seed, "calibration", pools.site).permutation(len(pools.train_good))
    return tuple(pools.train_good[i] for i in sorted(order[:number]))


def seen_pools(pools: Pools, share: float, seed: int) -> Pools:
    """Return ``pools`` without what is held back and what is painted on it."""
    names = {image.name for image in held_back(pools, share, seed)}
    return replace(
        pools,
        train_good=tuple(i for i in pools.train_good if i.name not in names),
        train_anomalies=tuple(i for i in pools.train_anomalies if i.base not in names),
    )


def calibration_normals(pools: Pools, share: float, seed: int) -> tuple[SiteImage, ...]:
    """Return the images behind the pooled p-values: what is held back, or all if nothing is."""
    return held_back(pools, share, seed) or pools.train_good
