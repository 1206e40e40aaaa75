"""The encoder and the store of its outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from bayfed.config.settings import Count, Settings


class Backbone(Settings):
    """The encoder: a frozen trunk whose outputs are stored, and a trainable tail."""

    name: str = "conv4"
    weights: Path | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Content that ``weights`` must have; a run fills it in, so that every factory has the same."""
    pretrained: bool = False
    """Ask timm's hub for weights; never done when ``weights`` names a file."""
    stages: tuple[int, ...] = (1, 2)
    image_size: Annotated[int, Field(ge=32, le=1024)] = 64
    grid: Count = 16
    smoothing: Annotated[int, Field(ge=1)] = 3
    trainable: Literal["head", "adapters", "all"] = "all"
    width: Count = 32
    """Channels of Conv-4; other backbones ignore it."""

    @model_validator(mode="after")
    def _maps_can_be_stacked(self) -> Backbone:
        if list(self.stages) != sorted(set(self.stages)) or min(self.stages, default=0) < 0:
            raise ValueError("backbone.stages must be distinct, ascending and not negative")
        if self.smoothing % 2 == 0:
            raise ValueError("backbone.smoothing must be odd")
        return self


class Store(Settings):
    """Where trunk outputs are kept between rounds and runs."""

    directory: Path | None = None
    dtype: Literal["float16", "float32"] = "float16"
