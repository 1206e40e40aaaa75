"""Less to train on: a part of the images, or of the kinds of defect."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from bayfed.data import SiteImage
from bayfed.episodes.pools import Pools
from bayfed.seeds import Key, stream

Part = tuple[float, float]
"""From and to, in fractions of a seeded order."""


def cut(pools: Pools, part: Part, seed: int, *key: Key) -> Pools:
    """Return ``pools`` with a part of the training images; the test stays whole.

    A painted defect goes where its base image goes.

    Args:
        pools: Of a site.
        part: Parts that do not overlap share no image, if they are of one key.
        seed: Of the experiment.
        *key: Of the order that the part is of.
    """
    good = cut_images(pools.train_good, part, seed, *key, "good")
    names = {image.name for image in good}
    real = [image for image in pools.train_anomalies if image.base is None]
    painted = tuple(image for image in pools.train_anomalies if image.base in names)
    anomalies = (*cut_images(real, part, seed, *key, "anomalies"), *painted)
    return replace(pools, train_good=good, train_anomalies=anomalies)


def cut_images(
    images: Sequence[SiteImage], part: Part, seed: int, *key: Key
) -> tuple[SiteImage, ...]:
    """Return a part of ``images`` in a seeded order, in the order in which they are given.

    >>> from pathlib import Path
    >>> from bayfed.data.files import FileSource
    >>> source = FileSource(Path("0.png"))
    >>> four = [SiteImage("part", f"{n}.png", None, source) for n in range(4)]
    >>> halves = [cut_images(four, part, 0, "example") for part in ((0, 0.5), (0.5, 1))]
    >>> sorted(image.name for half in halves for image in half)
    ['0.png', '1.png', '2.png', '3.png']
    """
    order = stream(seed, *key).permutation(len(images))
    first, last = (round(edge * len(images)) for edge in part)
    return tuple(images[i] for i in sorted(order[first:last]))


def spared_kinds(pools: Iterable[Pools], share: float, seed: int, *key: Key) -> frozenset[str]:
    """Draw the ``share`` of the kinds of defect that a client never trains on, rounded down.

    Args:
        pools: Of the client's sites.
        share: In [0, 1), so that a kind is left.
        seed: Of the experiment.
        *key: Of the client.
    """
    kinds = sorted({i.defect for site in pools for i in site.train_anomalies if i.defect})
    number = min(int(share * len(kinds) + 1e-9), len(kinds) - 1)  # 0.29 of 100 are 29
    order = stream(seed, "missing", *key).permutation(len(kinds))
    return frozenset(kinds[i] for i in order[: max(0, number)])


def without_kinds(pools: Pools, kinds: Collection[str]) -> Pools:
    """Return ``pools`` without the training defects of ``kinds``; the test keeps its own."""
    kept = tuple(image for image in pools.train_anomalies if image.defect not in kinds)
    return replace(pools, train_anomalies=kept)
