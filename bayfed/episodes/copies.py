"""Equal pictures under different names: what names cannot keep apart, content does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from bayfed.data import SiteImage
from bayfed.episodes.pools import Pools
from bayfed.errors import ProtocolError


def without_copies(pools: Pools) -> Pools:
    """Return ``pools`` with each picture of ``train_good`` once.

    Twins could be support and query of one episode. Painted defects go with their base.

    Raises:
        ProtocolError: two images are byte for byte the same, and one is of training and one of
            the test, or one good and one defective.
    """
    kept: dict[str, SiteImage] = {}
    for image in pools.train_good:
        kept.setdefault(image.digest(), image)
    names = {image.name for image in kept.values()}
    painted = (i for i in pools.train_anomalies if i.base is None or i.base in names)
    pools = replace(pools, train_good=tuple(kept.values()), train_anomalies=tuple(painted))
    known = {image.digest(): image.name for image in pools.training}
    for image in pools.testing:
        twin = known.get(image.digest())
        if twin is not None:
            raise ProtocolError(
                f"{pools.site}/{image.name}: the same picture as {twin} in training"
            )
    _refuse_contradictions(pools)
    return pools


def _refuse_contradictions(pools: Pools) -> None:
    seen: dict[str, SiteImage] = {}
    for image in (*pools.training, *pools.testing):
        twin = seen.setdefault(image.digest(), image)
        if (twin.defect is None) != (image.defect is None):
            raise ProtocolError(
                f"{pools.site}/{image.name}: the same picture as {twin.name}; "
                "it cannot be both good and defective"
            )


def training_pictures(sites: Iterable[Pools]) -> dict[str, str]:
    """Return digest -> ``site/name`` of every picture that training sees."""
    return {i.digest(): f"{pools.site}/{i.name}" for pools in sites for i in pools.training}


def refuse_known(pools: Pools, known: Mapping[str, str], unseen: bool) -> None:
    """Check that a site is not scored on pictures that training saw at any site.

    Args:
        pools: Of the site.
        known: As :func:`training_pictures` gives it.
        unseen: Whether training must not have seen the site's good images either: a product
            whose supports were trained on is not new.

    Raises:
        ProtocolError: a picture of the site is one of ``known``.
    """
    for image in (*pools.train_good, *pools.testing) if unseen else pools.testing:
        place = known.get(image.digest())
        if place is not None:
            raise ProtocolError(
                f"site {pools.site}: {image.name} is the same picture as {place} in training"
            )
