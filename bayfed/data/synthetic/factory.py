"""The synthetic factories: a product, a camera, and images drawn when asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bayfed.config import Synthetic
from bayfed.data.site import Mask, Pixels, Site, SiteImage
from bayfed.data.synthetic import goods, hardware, surfaces, woven
from bayfed.data.synthetic.camera import Camera
from bayfed.data.synthetic.canvas import Draw, halve
from bayfed.data.synthetic.damage import KINDS, check_kinds, damaged
from bayfed.seeds import stream

VERSION = 1
"""Part of every digest; raise it with any change to what is drawn."""

PROCEDURES: tuple[Draw, ...] = (
    woven.fabric,
    hardware.bolt,
    surfaces.metal,
    goods.cap,
    surfaces.leather,
    goods.connector,
    surfaces.wood,
    hardware.washer,
    surfaces.tile,
    goods.capsule,
    woven.carpet,
    hardware.gear,
    woven.knit,
    goods.board,
    surfaces.perforated,
    goods.label,
    surfaces.granite,
    hardware.nut,
    woven.mesh,
)
"""One family each; textures and objects take turns."""


@dataclass(frozen=True)
class Product:
    """The product of a factory: which procedure draws it, and its place in the list."""

    index: int
    name: str
    family: str


@lru_cache(maxsize=8)
def products(settings: Synthetic) -> tuple[Product, ...]:
    """Return the products in order; a family's second product has other parameters.

    >>> [product.name for product in products(Synthetic(products=20))][::19]
    ['fabric_00', 'fabric_01']
    """
    families = [draw.__name__ for draw in PROCEDURES]
    made = []
    for index in range(settings.products):
        copy, place = divmod(index, len(families))
        made.append(Product(index, f"{families[place]}_{copy:02d}", families[place]))
    return tuple(made)


@dataclass(frozen=True)
class SyntheticSource:
    """One drawing, determined by (seed, product, key, size)."""

    seed: int
    product: int
    key: str
    """Split, kind and number, such as ``test/crack/003``."""
    kind: str | None
    side: int

    def pixels(self) -> Pixels:
        """Draw the part, damage it where it has a defect, and take its picture."""
        return _drawn(self)[0].copy()

    def mask(self) -> Mask:
        """Draw the part and return where the defect changed it."""
        return _drawn(self)[1].copy()

    def size(self) -> tuple[int, int]:
        """Return (height, width)."""
        return self.side, self.side

    def digest(self) -> str:
        """Return the SHA-256 of all that the drawing depends on."""
        text = repr((VERSION, self.seed, self.product, self.key, self.kind, self.side))
        return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=32)
def _drawn(source: SyntheticSource) -> tuple[Pixels, Mask]:
    """Draw at twice the size, halve, then take the picture: the camera comes after the defect."""
    seed, index = source.seed, source.product
    design = stream(seed, "synthetic", "product", index)
    part = stream(seed, "synthetic", index, source.key)
    draw = PROCEDURES[index % len(PROCEDURES)]
    drawn = draw(design, part, (2 * source.side, 2 * source.side))
    if source.kind is None:
        scene, mask = halve(drawn.rgb), np.zeros(source.size(), dtype=np.bool_)
    else:
        scene, mask = damaged(drawn, part, KINDS[source.kind], halve)
    camera = Camera.draw(stream(seed, "synthetic", "camera", index))
    return camera.take(scene, part), mask


def _images(
    settings: Synthetic, seed: int, product: Product, split: str, kind: str | None, count: int
) -> list[SiteImage]:
    keys = [f"{split}/{kind or 'good'}/{number:03d}" for number in range(count)]
    return [
        SiteImage(
            product.name,
            f"{key}.png",
            kind,
            SyntheticSource(seed, product.index, key, kind, settings.size),
        )
        for key in keys
    ]


def sites(
    settings: Synthetic, seed: int, families: Mapping[str, str], held_out: Collection[str] = ()
) -> tuple[Site, ...]:
    """Return the sites named in ``families`` (name -> family); nothing is drawn yet.

    Sites that are, or whose family is, in ``held_out`` have defects of
    ``held_out_kinds``; the others of ``kinds``.

    Raises:
        ConfigError: a kind is unknown.
    """
    kinds = check_kinds(settings.kinds, "data.synthetic.kinds", KINDS)
    other = check_kinds(settings.held_out_kinds, "data.synthetic.held_out_kinds", KINDS)
    unseen = other if settings.held_out_kinds else kinds
    made = []
    for product in products(settings):
        family = families.get(product.name)
        if family is None:
            continue
        chosen = unseen if {product.name, family} & set(held_out) else kinds
        pools = [("train", None, settings.train_good), ("test", None, settings.test_good)]
        train, test = (_images(settings, seed, product, *pool) for pool in pools)
        defects = [
            image
            for kind in chosen
            for image in _images(settings, seed, product, "test", kind, settings.per_defect)
        ]
        made.append(Site(product.name, family, tuple(train), tuple(test), tuple(defects)))
    return tuple(made)
