"""The usual proportions of a product's pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bayfed.data.site import Site, SiteImage


@dataclass(frozen=True)
class Proportion:
    """Height over width that is usual among a site's good training images.

    Attributes:
        images: The good training images; their headers are read when the ratio is asked for.
    """

    images: tuple[SiteImage, ...]

    @cached_property
    def ratio(self) -> float:
        """The median of height / width.

        Raises:
            DataError: an image cannot be read.
        """
        return median(height / width for height, width in (i.size() for i in self.images))


def in_proportion(site: Site) -> Site:
    """Return ``site`` with images that know its usual proportions."""
    usual = Proportion(site.train_good)
    pools = (site.train_good, site.test_good, site.defects)
    known = (tuple(replace(image, proportion=usual) for image in pool) for pool in pools)
    train_good, test_good, defects = known
    return replace(site, train_good=train_good, test_good=test_good, defects=defects)
