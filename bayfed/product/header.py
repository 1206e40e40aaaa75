"""What the header of a product file says, checked on the way in and out."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field, field_validator

from bayfed.config import Settings
from bayfed.features.preprocess import LARGEST
from bayfed.product.thresholds import Kind

SCHEMA = 1
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Rate = Annotated[float, Field(gt=0, lt=1)]
Side = Annotated[int, Field(ge=1, le=LARGEST)]
Text = Annotated[str, Field(max_length=4096)]


class Region(Settings):
    """The inspected part."""

    roi: tuple[int, int, int, int] | None
    tiles: int


class Limit(Settings):
    """The threshold."""

    kind: Kind
    fpr: Rate
    value: float
    promise: Text


class Scores(Settings):
    """Scores of single images."""

    own: tuple[float, ...]
    """Of the support, each by the others."""
    normals: tuple[float, ...]
    defects: tuple[float, ...]
    pooled_shots: Annotated[int, Field(ge=0)]


class Images(Settings):
    """An image of the support."""

    name: Text
    sha256: Sha256


class Origin(Settings):
    """Where the product comes from."""

    source: Text
    version: Text
    fitted: Text
    updated: Text
    images: tuple[Images, ...]


class Header(Settings):
    """Everything but the tensors."""

    schema_version: Annotated[int, Field(ge=1)]
    name: Text
    settings: dict[str, Any]
    frame: Region
    shape: tuple[Side, Side]
    threshold: Limit | None
    scores: Scores
    dark: float
    provenance: Origin
    digest: Sha256

    @field_validator("shape")
    @classmethod
    def _fits_into_memory(cls, shape: tuple[int, int]) -> tuple[int, int]:
        if math.prod(shape) > LARGEST:
            raise ValueError(f"more than {LARGEST} pixels")
        return shape
