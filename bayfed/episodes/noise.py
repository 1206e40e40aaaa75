"""Label noise: defects among the images that a factory takes for good."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from bayfed.data import SiteImage
from bayfed.episodes.pools import Pools
from bayfed.errors import ConfigError, ProtocolError
from bayfed.seeds import Key, stream

LARGEST_SHARE = 0.5
"""Of a site's test defects that may be given away; the others are still to be found."""


def contaminate(pools: Pools, share: float, seed: int, draw: int = 0) -> Pools:
    """Return ``pools`` with a ``share`` of train/good replaced by defects, which leave the test.

    A share that is no whole number of images is rounded, to one image at least. Half of the
    test defects stay in the test, and one of each type. A larger share holds what a smaller
    one of the same draw does.

    Args:
        pools: Of the site.
        share: In [0, 1); 0 = none.
        seed: Of the experiment.
        draw: Which defects are given, and in whose places, is drawn anew for each.

    Raises:
        ProtocolError: the site has no defect to give.
    """
    if not share:
        return pools
    given = _given(pools, share, seed, draw)
    if not given:
        found = len(pools.test_anomalies)
        raise ProtocolError(
            f"site {pools.site}: noise {share:g} needs defects beyond the half of them, and one "
            f"of each type, that stay in the test; it has {found}"
        )
    good = list(pools.train_good)
    places = stream(seed, "noise", "places", pools.site, draw).permutation(len(good))
    for place, image in zip(places[: len(given)], given, strict=True):
        good[place] = image
    rest = _without(pools.test_anomalies, given)
    return replace(pools, train_good=tuple(good), test_anomalies=rest)


def taken_for_good(images: Iterable[SiteImage]) -> tuple[SiteImage, ...]:
    """Return defects as a factory holds them that takes them for good: unmarked, on no base.

    >>> from pathlib import Path
    >>> from bayfed.data.files import FileSource
    >>> crack = SiteImage("part", "test/crack/0.png", "crack", FileSource(Path("0.png")))
    >>> [(image.name, image.defect) for image in taken_for_good([crack])]
    [('test/crack/0.png', None)]
    """
    return tuple(replace(image, defect=None, base=None) for image in images)


def give_away(pools: Pools, share: float, seed: int) -> tuple[Pools, tuple[SiteImage, ...]]:
    """Take out of a site the real defects that its clients will take for good.

    They come from those of training where there are any, else from the test: under new-defect
    the kept-back type stays unseen. Half of them stay, and one of each type. They are as many
    as the ``share`` of train/good, so that every client of the site finds enough among them,
    and none is scored at one client and trained on at another.

    Args:
        pools: Of the whole site.
        share: In [0, 1); 0 = none.
        seed: Of the experiment.

    Returns:
        The pools without them, and them.

    Raises:
        ConfigError: the site has too few.
    """
    if not share:
        return pools, ()
    real = [image for image in pools.train_anomalies if image.base is None]
    defects = real or pools.test_anomalies
    wanted = _wanted(pools, share)
    given = _drawn(defects, wanted, stream(seed, "mislabelled", "defects", pools.site))
    if len(given) < wanted:
        raise ConfigError(
            f"data.skew.noise: {share:g} needs {wanted} defects of site {pools.site}, which can "
            f"give {len(given)} of its {len(defects)}: half of them stay, and one of each type"
        )
    kept = replace(
        pools,
        train_anomalies=_without(pools.train_anomalies, given),
        test_anomalies=_without(pools.test_anomalies, given),
    )
    return kept, tuple(given)


def mislabelled(
    pools: Pools, given: Sequence[SiteImage], share: float, seed: int, *key: Key
) -> Pools:
    """Return ``pools`` with a ``share`` of train/good replaced by defects taken for good.

    What is painted on an image that is replaced goes with it.

    Args:
        pools: Of a client.
        given: What it may take for good, by :func:`give_away`, the first ones first.
        share: In [0, 1); 0 = none.
        seed: Of the experiment.
        *key: Of the places that they take.
    """
    number = min(len(given), _wanted(pools, share)) if share else 0
    if not number:
        return pools
    good = list(pools.train_good)
    places = stream(seed, "mislabelled", "places", *key).permutation(len(good))[:number]
    gone = {good[place].name for place in places}
    for place, image in zip(places, taken_for_good(given[:number]), strict=True):
        good[place] = image
    anomalies = tuple(i for i in pools.train_anomalies if i.base not in gone)
    return replace(pools, train_good=tuple(good), train_anomalies=anomalies)


def as_trained_on(pools: Pools, share: float, seed: int) -> Pools:
    """Return the pools of a site whose train/good holds all that its clients may take for good."""
    kept, given = give_away(pools, share, seed)
    return replace(kept, train_good=(*kept.train_good, *taken_for_good(given)))


def noise_of(images: tuple[SiteImage, ...]) -> float:
    """Return the share of ``images`` that is defective."""
    return sum(image.defect is not None for image in images) / max(1, len(images))


def shortfall(pools: Pools, share: float, seed: int) -> str | None:
    """Return a line that says how far a site stays below ``share``; None where it does not.

    Raises:
        ProtocolError: the site has no defect to give.
    """
    number = len(contaminate(pools, share, seed).train_good)
    reached = len(_given(pools, share, seed, 0)) if share else 0
    if not share or reached >= _wanted(pools, share):
        return None
    return (
        f"site {pools.site}: noise {share:g} is capped at {reached / number:.3f}, "
        f"{reached} of its {len(pools.test_anomalies)} test defects"
    )


def _wanted(pools: Pools, share: float) -> int:
    number = len(pools.train_good)
    return max(min(1, number), min(number - 1, round(share * number)))


def _given(pools: Pools, share: float, seed: int, draw: int) -> list[SiteImage]:
    random = stream(seed, "noise", "defects", pools.site, draw)
    return _drawn(pools.test_anomalies, _wanted(pools, share), random)


def _drawn(
    defects: Sequence[SiteImage], wanted: int, random: np.random.Generator
) -> list[SiteImage]:
    """Draw ``wanted`` of ``defects``, if half of them and one of each type are to stay."""
    number = min(wanted, int(LARGEST_SHARE * len(defects)))
    left = Counter(image.defect for image in defects)
    given: list[SiteImage] = []
    for i in random.permutation(len(defects)):
        if len(given) == number:
            break
        if left[defects[i].defect] > 1:
            left[defects[i].defect] -= 1
            given.append(defects[i])
    return given


def _without(images: Iterable[SiteImage], gone: Iterable[SiteImage]) -> tuple[SiteImage, ...]:
    names = {image.name for image in gone}
    return tuple(image for image in images if image.name not in names)
