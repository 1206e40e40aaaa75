"""Sites, and what their images may be used for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from bayfed.config.settings import Count, Settings
from bayfed.config.training import Noise


class Synthetic(Settings):
    """Procedural factories: one product and one camera each."""

    products: Count = 16
    size: Annotated[int, Field(ge=32, le=512)] = 64
    train_good: Count = 40
    test_good: Count = 24
    per_defect: Count = 12
    kinds: tuple[str, ...] = ()
    """Defect kinds at the training factories; empty = all."""
    held_out_kinds: tuple[str, ...] = ()
    """Defect kinds at the factories named by ``protocol.holdout``; empty = ``kinds``."""


class Pasted(Settings):
    """Synthetic defects painted on training normals, so that a site without defects can train."""

    per_site: Annotated[int, Field(ge=0)] = 0
    kinds: tuple[str, ...] = ()


class Skew(Settings):
    """How unlike the clients are made; a dial at 0 leaves them as they are.

    Every client draws its own, and turning a dial up goes further the same way.
    """

    quantity: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """A client keeps a share of its training images, log-uniform from 1 - quantity to 1."""
    camera: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How far light, focus and sensor of a client's camera are from the one that took its images
    (``bayfed.data.retaken``)."""
    noise: Noise = 0.0
    """Share of a client's good training images that are defects of its site in truth. They are in
    its supports as well, and leave every test."""
    missing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of its kinds of defect that a client never trains on, rounded down; the test keeps
    them."""


class Data(Settings):
    """Where the sites come from."""

    source: Literal["synthetic", "folders"] = "synthetic"
    root: Path | None = None
    layout: Literal["auto", "mvtec", "visa", "ksdd2", "folder"] = "auto"
    sites: tuple[str, ...] = ()
    families: dict[str, tuple[str, ...]] = {}
    synthetic: Synthetic = Synthetic()
    pasted: Pasted = Pasted()
    skew: Skew = Skew()

    @model_validator(mode="after")
    def _root_is_given(self) -> Data:
        if self.source == "folders" and self.root is None:
            raise ValueError("data.root is needed when data.source is folders")
        return self


class Protocol(Settings):
    """Which images may be used for what (``bayfed.episodes.protocols``)."""

    name: Literal["standard", "new-product", "new-defect"] = "standard"
    holdout: tuple[str, ...] = ()
    """Sites or families that take no part in training (new-product)."""

    @model_validator(mode="after")
    def _holdout_fits(self) -> Protocol:
        if (self.name == "new-product") != bool(self.holdout):
            raise ValueError(
                "protocol.holdout names the unseen sites of new-product, and only of it"
            )
        return self
