"""What the service needs of a fitted detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from bayfed.data import Pixels
from bayfed.evaluation.colours import ColourScale
from bayfed.inference.inspection import Inspection


class Product(Protocol):
    """A detector fitted to one product."""

    @property
    def name(self) -> str:
        """Name of the product."""

    @property
    def fpr(self) -> float:
        """False-alarm rate that its threshold promises."""

    @property
    def promise(self) -> str:
        """What its threshold promises, and what the promise rests on."""

    @property
    def threshold(self) -> float:
        """Score above which a part is called defective."""

    @property
    def scale(self) -> ColourScale:
        """The one scale on which its maps are drawn."""

    def score(self, images: Sequence[Pixels]) -> Sequence[Inspection]:
        """Say of each image, (H, W, 3), what is to be thought of it."""

    def update(self, images: Sequence[Pixels]) -> object:
        """Take further good parts into the model, all of them or, with an error, none."""

    def save(self, path: Path) -> None:
        """Write the product file."""


Load = Callable[[Path], Product]
"""Opens a product file."""
