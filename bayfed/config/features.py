"""The encoder and the store of its outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from bayfed.config.settings import Count, Settings


class Wide(Settings):
    """A layer inside the backbone whose channels are many: a second view of every token."""

    layer: str
    """Name of a module, such as ``blocks.5.0.bn1``, the expansion of an inverted residual."""
    channels: Count = 192
    """Fixed random directions onto which its outputs are projected."""
    coarser: Count = 2
    """How many times coarser than the grid its own one is."""


class Contrast(Settings):
    """A share of its surroundings is subtracted from a token, but for the wide layer's."""

    distance: Count = 6
    """Of the surroundings, in tokens."""
    share: float = 0.0
    """At round 0; it is a meta-parameter."""


class Backbone(Settings):
    """The encoder: a frozen trunk whose outputs are stored, and a trainable tail."""

    name: str = "conv4"
    weights: Path | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Content that ``weights`` must have; a run fills it in, so that every factory has the same."""
    pretrained: bool = False
    """Ask timm's hub for weights; never done when ``weights`` names a file."""
    stages: tuple[int, ...] = (1, 2)
    wide: Wide | None = None
    image_size: Annotated[int, Field(ge=32, le=1024)] = 64
    aspect: Literal["square", "product"] = "square"
    """``product``: inputs keep the usual proportions of a site, at the area of the square."""
    grid: Annotated[int, Field(ge=1, le=256)] = 16
    smoothing: Annotated[int, Field(ge=1)] = 3
    contrast: Contrast | None = None
    trainable: Literal["head", "adapters", "all"] = "all"
    width: Count = 32
    """Channels of Conv-4; other backbones ignore it."""

    @model_validator(mode="after")
    def _maps_can_be_stacked(self) -> Backbone:
        if list(self.stages) != sorted(set(self.stages)) or min(self.stages, default=0) < 0:
            raise ValueError("backbone.stages must be distinct, ascending and not negative")
        if self.trainable == "all" and self.aspect != "square":
            raise ValueError("backbone.aspect needs a frozen backbone")
        if self.trainable != "head" and (self.wide or self.contrast):
            raise ValueError("backbone.wide and backbone.contrast need backbone.trainable: head")
        if self.wide and self.grid % self.wide.coarser:
            raise ValueError(f"backbone.wide.coarser must divide backbone.grid, {self.grid}")
        if self.wide and self.wide.channels % self.wide.coarser**2:
            raise ValueError("backbone.wide.channels must be a multiple of the square of coarser")
        if self.smoothing % 2 == 0:
            raise ValueError("backbone.smoothing must be odd")
        return self


class Store(Settings):
    """Where trunk outputs are kept between rounds and runs."""

    directory: Path | None = None
    dtype: Literal["float16", "float32"] = "float16"
