"""Label noise: defects among the images that a factory takes for good."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from bayfed.data import SiteImage
from bayfed.episodes.pools import Pools
from bayfed.errors import ProtocolError
from bayfed.seeds import stream

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
    names = {image.name for image in given}
    rest = tuple(image for image in pools.test_anomalies if image.name not in names)
    return replace(pools, train_good=tuple(good), test_anomalies=rest)


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
    defects = pools.test_anomalies
    number = min(_wanted(pools, share), int(LARGEST_SHARE * len(defects)))
    left = Counter(image.defect for image in defects)
    given: list[SiteImage] = []
    for i in stream(seed, "noise", "defects", pools.site, draw).permutation(len(defects)):
        if len(given) == number:
            break
        if left[defects[i].defect] > 1:
            left[defects[i].defect] -= 1
            given.append(defects[i])
    return given
