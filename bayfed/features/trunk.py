"""The frozen part of the encoder, whose outputs are computed once and stored."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from bayfed.config import Backbone as BackboneSettings
from bayfed.features.backbone import Backbone
from bayfed.features.maps import align, pooled, to_tokens
from bayfed.features.views import pack

VERSION = 3
"""Raised when the same settings start to give other numbers."""


class Trunk(Protocol):
    """Maps square pictures to what the store keeps."""

    @property
    def fingerprint(self) -> str:
        """Hex digest of everything that decides the output."""

    @property
    def batch(self) -> int:
        """Pictures in one pass: always as many, since a sum may depend on how many there are."""

    def __call__(self, images: Tensor) -> Tensor:
        """Map ``(n, 3, s, s)`` uint8 to ``(n, ...)``."""


@dataclass(frozen=True)
class IdentityTrunk:
    """Keeps the pictures themselves: everything behind is trainable."""

    image_size: int

    @property
    def fingerprint(self) -> str:
        """Hex digest of everything that decides the output."""
        return _digest("identity", self.image_size)

    @property
    def batch(self) -> int:
        """Pictures in one pass."""
        return 8

    def __call__(self, images: Tensor) -> Tensor:
        """Return ``(n, 3, s, s)`` uint8 as it is."""
        return images


@dataclass(frozen=True)
class FrozenTrunk:
    """A frozen backbone: tokens of the grid, one pooled token, or maps for adapters.

    Outputs, by ``output``: ``tokens`` ``(n, grid * grid, c)``, ``pooled`` ``(n, 1, c)``,
    ``maps`` ``(n, c, grid, grid)``; float32.
    """

    backbone: Backbone
    settings: BackboneSettings
    output: str
    device: torch.device
    folded: bool = True
    """Whether the network runs with its constants folded; an exporter wants it as it is."""

    @cached_property
    def network(self) -> Callable[[Tensor], Sequence[Tensor]]:
        """Return the network with its constants folded: a third faster on a CPU, same numbers."""
        if not self.folded:
            return self.backbone.network
        size = self.settings.image_size
        example = torch.zeros(1, 3, size, size, device=self.device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces the end of TorchScript at every call
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                self.backbone.network, example.contiguous(memory_format=torch.channels_last)
            )
            frozen: Callable[[Tensor], Sequence[Tensor]] = torch.jit.freeze(traced)
        return frozen

    @property
    def fingerprint(self) -> str:
        """Hex digest of everything that decides the output."""
        s = self.settings
        return _digest(
            self.backbone.identity,
            (self.backbone.mean, self.backbone.std),
            (s.image_size, s.grid, s.smoothing, self.output, self.device.type),
        )

    @property
    def batch(self) -> int:
        """Pictures in one pass: few on a CPU, whose caches then hold the early maps."""
        return 2 if self.device.type == "cpu" else 32

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Map ``(n, 3, s, s)`` uint8 to the chosen output on the CPU."""
        inputs = self.backbone.normalise(images.to(self.device))
        maps = self.network(inputs.contiguous(memory_format=torch.channels_last))
        if self.output == "pooled":
            return pooled(maps).cpu()
        aligned = self._align(maps)
        return (aligned if self.output == "maps" else to_tokens(aligned)).cpu()

    def _align(self, maps: Sequence[Tensor]) -> Tensor:
        """Bring the stages to the grid, and the wide layer, packed into it, to its coarser one."""
        grid, smoothing, wide = self.settings.grid, self.settings.smoothing, self.settings.wide
        if wide is None:
            return align(maps, grid, smoothing)
        coarse = align(maps[-1:], grid // wide.coarser, smoothing)
        return torch.cat([align(maps[:-1], grid, smoothing), pack(coarse, wide.coarser)], dim=1)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr((VERSION, *parts)).encode()).hexdigest()
