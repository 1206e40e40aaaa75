"""The supports of an evaluation, with what each of them leaves to the test."""

from __future__ import annotations

from dataclasses import dataclass

from bayfed.config import FULL, Evaluation
from bayfed.data import SiteImage
from bayfed.episodes.held_back import seen_pools
from bayfed.episodes.noise import contaminate
from bayfed.episodes.pools import Pools, draw_support
from bayfed.seeds import stream


@dataclass(frozen=True)
class Draw:
    """One support.

    Attributes:
        number: Of the draw.
        support: The images to adapt to, good but for label noise.
        pools: Of the site, in which no defect is in the support and in the test.
    """

    number: int
    support: tuple[SiteImage, ...]
    pools: Pools


def draws_of(pools: Pools, settings: Evaluation, seed: int) -> list[Draw]:
    """Return the draws of an evaluation.

    A support is ``settings.shots`` images of train/good, or all of them that are not held back
    for calibration; a share ``settings.noise`` of train/good are defects. A draw of the same
    images as one before is left out: it would count one measurement twice.

    Raises:
        ProtocolError: the site has fewer good images than shots, or no defect for the noise.
    """
    found: dict[frozenset[str], Draw] = {}
    for number in range(settings.draws):
        one = draw_of(pools, settings, seed, number)
        found.setdefault(frozenset(image.name for image in one.support), one)
    return list(found.values())


def draw_of(pools: Pools, settings: Evaluation, seed: int, number: int) -> Draw:
    """Return one draw; see :func:`draws_of`."""
    pools = contaminate(pools, settings.noise, seed, number)
    if settings.shots != FULL:
        return Draw(number, draw_support(pools, settings.shots, seed, number), pools)
    pools.need(1, "a full support")
    seen = seen_pools(pools, settings.calibration, seed).train_good
    order = stream(seed, "support", pools.site, FULL, number).permutation(len(seen))
    return Draw(number, tuple(seen[i] for i in order), pools)
