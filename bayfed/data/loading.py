"""From the settings to the sites."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from bayfed.config import Data
from bayfed.data import synthetic
from bayfed.data.layouts import LAYOUTS, Layout, find_layout
from bayfed.data.proportion import in_proportion
from bayfed.data.site import Site
from bayfed.errors import ConfigError, DataError


def _root(settings: Data) -> Path:
    if settings.root is None:
        raise ConfigError("data.root is needed when data.source is folders")
    return settings.root


def _default_families(settings: Data) -> dict[str, str]:
    """Return the family of each site there is, before the settings have their say."""
    if settings.source == "synthetic":
        return {product.name: product.family for product in synthetic.products(settings.synthetic)}
    return {name: name for name in find_layout(_root(settings), settings.layout)[1]}


def _families(settings: Data, default: dict[str, str]) -> dict[str, str]:
    listed = [name for group in settings.families.values() for name in group]
    twice = [name for name, count in Counter(listed).items() if count > 1]
    if twice:
        raise ConfigError(f"data.families: site {twice[0]!r} is listed twice")
    for family, group in settings.families.items():
        for name in group:
            if name not in default:
                raise ConfigError(f"data.families.{family}: no site {name!r}")
    given = {name: family for family, group in settings.families.items() for name in group}
    return default | given


def wrong_name(name: str) -> str | None:
    """Return why no site can be called ``name``, or ``None``.

    >>> wrong_name("nut+bolt")
    "a site's name cannot hold +, which joins the names of several; rename the folder"
    """
    if "+" not in name:
        return None
    return "a site's name cannot hold +, which joins the names of several; rename the folder"


def site_names(settings: Data, seed: int) -> tuple[tuple[str, str], ...]:  # noqa: ARG001
    """Return (name, family) of the selected sites, sorted by name, opening no image.

    Raises:
        ConfigError: ``data.sites`` or ``data.families`` names a site that is not there.
        DataError: the root does not exist or holds no site, or one whose name cannot be used.

    >>> from bayfed.config import Synthetic
    >>> site_names(Data(synthetic=Synthetic(products=1)), seed=0)
    (('fabric_00', 'fabric'),)
    """
    families = _families(settings, _default_families(settings))
    unknown = [name for name in settings.sites if name not in families]
    if unknown:
        known = ", ".join(sorted(families))
        raise ConfigError(f"data.sites: no site {unknown[0]!r} (there are: {known})")
    chosen = settings.sites or tuple(families)
    for name in chosen:
        if reason := wrong_name(name):
            raise DataError(f"{_folder(_root(settings), name)}: {reason}")
    return tuple(sorted((name, families[name]) for name in set(chosen)))


def _check_held_out(held_out: Collection[str], names: tuple[tuple[str, str], ...]) -> None:
    known = {text for pair in names for text in pair}
    for name in held_out:
        if name not in known:
            raise ConfigError(f"protocol.holdout: no site or family {name!r}")


def _read(root: Path, layout: Layout, name: str, seed: int) -> Site:
    site = layout.read(root, name, seed)
    if not site.train_good:
        raise DataError(f"{_folder(root, name)}: no good image to train on")
    return site


def _folder(root: Path, name: str) -> Path:
    return root / name if (root / name).is_dir() else root


def load_sites(
    settings: Data,
    seed: int,
    held_out: Collection[str] = (),
    only: Collection[str] | None = None,
) -> tuple[Site, ...]:
    """Return the selected sites, sorted by name; images are decoded when asked for.

    The pools of a site are disjoint by file. Copies of one image in two pools
    are found by ``bayfed sites``, which reads every file; this function does not.

    Args:
        settings: where the sites are and which are wanted.
        seed: draws the synthetic factories and splits plain folders.
        held_out: sites or families whose synthetic defects are of
            ``held_out_kinds``.
        only: names of those that are wanted of the selected sites; all of them if not given.

    Raises:
        ConfigError: a setting names a site, family or kind that is not there.
        DataError: the root does not exist, or a site has no good image.

    >>> from bayfed.config import Synthetic
    >>> [site.name for site in load_sites(Data(synthetic=Synthetic(products=2)), seed=0)]
    ['bolt_00', 'fabric_00']
    """
    names = site_names(settings, seed)
    _check_held_out(held_out, names)
    names = tuple(pair for pair in names if only is None or pair[0] in only)
    if settings.source == "folders":
        root = _root(settings)
        layout = LAYOUTS[find_layout(root, settings.layout)[0]]
        return tuple(
            in_proportion(replace(_read(root, layout, name, seed), family=family))
            for name, family in names
        )
    made = synthetic.sites(settings.synthetic, seed, dict(names), held_out)
    return tuple(in_proportion(site) for site in sorted(made, key=lambda site: site.name))
