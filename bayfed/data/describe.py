"""What lies in a folder of sites, every image opened, every problem named."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bayfed.data.files import FileSource, read_header
from bayfed.data.layouts import LAYOUTS, find_layout
from bayfed.data.loading import wrong_name
from bayfed.data.site import Site, SiteImage
from bayfed.errors import DataError

FEWEST_GOOD = 5
"""Good training images below which the default support of five cannot be drawn."""


@dataclass(frozen=True)
class SiteDescription:
    """One site as found.

    Attributes:
        name: name of the site.
        layout: layout in which it was read.
        train_good: number of good training images.
        test_good: number of good test images.
        defects: number of images of each type of defect.
        masks: number of defective images with a mask.
        height: smallest and largest, in pixels; None = no readable image.
        width: smallest and largest, in pixels.
        modes: number of images of each mode (``RGB``, ``L``, ``I;16`` ...).
        errors: problems that would stop or falsify a run.
        warnings: problems that would not.
    """

    name: str
    layout: str
    train_good: int = 0
    test_good: int = 0
    defects: dict[str, int] = field(default_factory=dict)
    masks: int = 0
    height: tuple[int, int] | None = None
    width: tuple[int, int] | None = None
    modes: dict[str, int] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """Errors, then warnings."""
        return (*self.errors, *self.warnings)


@dataclass
class _Survey:
    """What opening the images one by one brings together."""

    sizes: list[tuple[int, int]] = field(default_factory=list)
    modes: Counter[str] = field(default_factory=Counter)
    digests: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    masks: int = 0
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def open(self, image: SiteImage) -> None:
        try:
            if isinstance(image.source, FileSource):
                self.modes[read_header(image.source.path).mode] += 1
            self.sizes.append(image.pixels().shape[:2])
            self.digests[image.digest()].append(image.name)
        except DataError as error:
            self.errors.append(str(error))
            return
        if image.defect:
            self._open_mask(image)

    def _open_mask(self, image: SiteImage) -> None:
        try:
            mask = image.mask()
        except DataError as error:
            self.errors.append(str(error))
            return
        if mask is not None:
            self.masks += 1
            if not mask.any():
                self.warnings.append(f"{image.name}: the mask of this defect is empty")


def _duplicates(site: Site, digests: dict[str, list[str]]) -> tuple[list[str], list[str]]:
    """Return copies across the three pools (errors) and inside one (warnings)."""
    pools = {image.name: "train" for image in site.train_good}
    pools |= {image.name: "test" for image in site.test_good}
    pools |= {image.name: "defects" for image in site.defects}
    across, within = [], []
    for names in digests.values():
        if len({pools[name] for name in names}) > 1:
            across.append(f"the same image in two pools: {', '.join(names)}")
        elif len(names) > 1:
            within.append(f"the same image twice: {', '.join(names)}")
    return across, within


def _shortages(site: Site) -> tuple[list[str], list[str]]:
    errors, warnings = [], []
    if reason := wrong_name(site.name):
        errors.append(reason)
    if len(site.train_good) < FEWEST_GOOD:
        errors.append(f"{len(site.train_good)} good training images, {FEWEST_GOOD} are needed")
    if not site.test_good:
        warnings.append("no good test image: the site cannot be evaluated")
    if not site.defects:
        warnings.append("no defect: the site cannot be evaluated")
    return errors, warnings


def _extent(values: Iterable[int]) -> tuple[int, int] | None:
    ordered = sorted(values)
    return (ordered[0], ordered[-1]) if ordered else None


def describe_site(site: Site, layout: str) -> SiteDescription:
    """Open every image of ``site`` and return what was found."""
    survey = _Survey()
    for image in site.images:
        survey.open(image)
    across, within = _duplicates(site, survey.digests)
    few, lacking = _shortages(site)
    unmasked = len(site.defects) - survey.masks
    if survey.masks and unmasked:
        lacking.append(f"{unmasked} of {len(site.defects)} defective images have no readable mask")
    return SiteDescription(
        name=site.name,
        layout=layout,
        train_good=len(site.train_good),
        test_good=len(site.test_good),
        defects=dict(sorted(Counter(image.defect or "" for image in site.defects).items())),
        masks=survey.masks,
        height=_extent(height for height, _ in survey.sizes),
        width=_extent(width for _, width in survey.sizes),
        modes=dict(sorted(survey.modes.items())),
        errors=(*few, *survey.errors, *across),
        warnings=(*lacking, *survey.warnings, *within),
    )


def describe_sites(root: Path, layout: str = "auto", seed: int = 0) -> list[SiteDescription]:
    """Return a description of each site under ``root``, sorted by name.

    A site that cannot be read at all is described by its error.

    Args:
        root: one site or a folder of sites.
        layout: name of a layout, or ``auto``.
        seed: splits plain folders as a run with this seed would.

    Raises:
        ConfigError: the layout is unknown.
        DataError: the folder does not exist or holds no site.
    """
    found, names = find_layout(root, layout)
    descriptions = []
    for name in sorted(names):
        try:
            descriptions.append(describe_site(LAYOUTS[found].read(root, name, seed), found))
        except DataError as error:
            descriptions.append(SiteDescription(name, found, errors=(str(error),)))
    return descriptions
