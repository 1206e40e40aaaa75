"""The three protocols: which images of a site training may see, and which are only scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bayfed.config import Protocol as ProtocolSettings
from bayfed.data import Site, SiteImage
from bayfed.episodes.pools import Pools
from bayfed.errors import ProtocolError
from bayfed.seeds import stream


def is_held_out(name: str, family: str, settings: ProtocolSettings) -> bool:
    """Tell whether a site or its family is kept from training.

    >>> is_held_out("elpv_mono", "elpv", ProtocolSettings(name="new-product", holdout=("elpv",)))
    True
    """
    return name in settings.holdout or family in settings.holdout


def check_holdout(sites: Sequence[tuple[str, str]], settings: ProtocolSettings) -> None:
    """Check the held-out names against the sites ``(name, family)`` that there are.

    Raises:
        ProtocolError: a name is unknown, a family would be split, or nothing is left to train on.
    """
    known = {name for name, _ in sites} | {family for _, family in sites}
    for name in settings.holdout:
        if name not in known:
            raise ProtocolError(f"protocol.holdout: no site or family is called {name!r}")
    check_families(sites, settings)
    if sites and all(is_held_out(name, family, settings) for name, family in sites):
        raise ProtocolError("protocol.holdout: no site is left to train on")


def check_families(sites: Iterable[tuple[str, str]], settings: ProtocolSettings) -> None:
    """Check that each family is held out whole: one member would show the product to training.

    Raises:
        ProtocolError: a family would be split.
    """
    held = {(name, family): is_held_out(name, family, settings) for name, family in sites}
    families_out = {family for (_, family), out in held.items() if out}
    for (name, family), out in held.items():
        if family in families_out and not out:
            raise ProtocolError(
                f"protocol.holdout: {name} is of the held-out family {family!r}; name the family"
            )


def standard(site: Site, painted: tuple[SiteImage, ...], seed: int) -> Pools:
    """Train on train/good and painted defects; score the whole test split."""
    del seed
    return Pools(site.name, site.family, site.train_good, painted, site.test_good, site.defects)


def new_product(site: Site, painted: tuple[SiteImage, ...], seed: int) -> Pools:
    """Give every defect of a training site to training; the site itself is not scored."""
    del seed
    return Pools(site.name, site.family, site.train_good, (*site.defects, *painted))


def new_defect(site: Site, painted: tuple[SiteImage, ...], seed: int) -> Pools:
    """Keep one defect type, or half of the only one, for the test.

    Raises:
        ProtocolError: the site has fewer than two defective images.
    """
    if len(site.defects) < 2:
        raise ProtocolError(f"site {site.name}: new-defect needs two defective images")
    random = stream(seed, "new-defect", site.name)
    types = site.defect_types
    if len(types) > 1:
        kept = types[int(random.integers(len(types)))]
        test = [image for image in site.defects if image.defect == kept]
    else:
        order = random.permutation(len(site.defects))
        test = [site.defects[i] for i in sorted(order[: len(order) // 2])]
    names = {image.name for image in test}
    seen = tuple(image for image in site.defects if image.name not in names)
    return Pools(
        site.name,
        site.family,
        site.train_good,
        (*seen, *painted),
        site.test_good,
        tuple(test),
        partial=True,
    )


PROTOCOLS: dict[str, Callable[[Site, tuple[SiteImage, ...], int], Pools]] = {
    "standard": standard,
    "new-product": new_product,
    "new-defect": new_defect,
}


def training_pools(
    site: Site, settings: ProtocolSettings, painted: tuple[SiteImage, ...], seed: int
) -> Pools:
    """Return the pools of a site under ``settings``; a held-out one gives none to training.

    Raises:
        ProtocolError: the site has too few images for the protocol.
    """
    if is_held_out(site.name, site.family, settings):
        return unseen_pools(site)
    return PROTOCOLS[settings.name](site, painted, seed)


def unseen_pools(site: Site) -> Pools:
    """Return the pools of a site that took no part in training: supports, and the whole test."""
    return Pools(
        site.name,
        site.family,
        train_good=site.train_good,
        test_good=site.test_good,
        test_anomalies=site.defects,
    )
