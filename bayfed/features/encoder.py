"""Encoder = frozen trunk + trainable tail, by the experiment's settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch

from bayfed.config import Backbone as BackboneSettings
from bayfed.config import Experiment
from bayfed.errors import ConfigError
from bayfed.features.backbone import CONV4, build_backbone
from bayfed.features.contrast import ContrastTail
from bayfed.features.tail import AdapterTail, IdentityTail, NetworkTail, Tail
from bayfed.features.trunk import FrozenTrunk, IdentityTrunk, Trunk
from bayfed.features.views import JoinedTail, OnGrid, PartTail
from bayfed.seeds import torch_stream


@dataclass(frozen=True)
class Encoder:
    """Both parts, the grid their tokens lie on (1 at the image grain), and where they compute."""

    trunk: Trunk
    tail: Tail
    grid: int
    image_size: int
    views: tuple[OnGrid, ...] = ()
    """Both, where there are two: of the stages together, and of a wide layer."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def resolve_device(name: str) -> torch.device:
    """Return the device that ``auto``, ``cpu`` or ``cuda`` means on this machine.

    Raises:
        ConfigError: CUDA is asked for and absent.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: cuda is asked for, and no CUDA device is here")
    return torch.device(name)


def build_encoder(experiment: Experiment, device: torch.device) -> Encoder:
    """Build the encoder of ``experiment``; the same seed gives the same parameters everywhere.

    The last one is kept: many clients in one process share its weights.

    Raises:
        ConfigError: the backbone or its settings are unknown.
        WeightsError: the weights do not fit.
    """
    settings = experiment.backbone
    if settings.name == CONV4 and settings.trainable != "all":
        raise ConfigError("backbone.trainable: conv4 has no pretrained weights to freeze; use all")
    pool = experiment.method.grain == "image"
    return _build(settings, pool, experiment.seed, device, _version(settings.weights))


def _version(path: Path | None) -> tuple[int, int] | None:
    if path is None or not path.exists():
        return None
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=1)
def _build(
    settings: BackboneSettings,
    pool: bool,
    seed: int,
    device: torch.device,
    version: tuple[int, int] | None,
) -> Encoder:
    del version  # of the weights' file: another one is another encoder
    backbone = build_backbone(settings, torch_stream(seed, "backbone"))
    backbone.network.to(device)
    grid = 1 if pool else settings.grid
    if settings.trainable == "all":
        network = NetworkTail(backbone, settings.grid, settings.smoothing, pool)
        pictures = IdentityTrunk(settings.image_size)
        return Encoder(pictures, network, grid, settings.image_size, (), device)
    channels = sum(backbone.channels)
    tail: Tail
    views: tuple[OnGrid, ...] = ()
    if settings.trainable == "adapters":
        output, tail = "maps", AdapterTail(channels, pool)
    else:
        output, tail = "pooled" if pool else "tokens", IdentityTail(channels)
        if not pool:
            views = _views(settings, channels)
            tails = tuple(view.tail for view in views)
            tail = tails[0] if len(tails) == 1 else JoinedTail(tails)
    trunk = FrozenTrunk(backbone, settings, output, device)
    several = views if len(views) > 1 else ()
    return Encoder(trunk, tail, grid, settings.image_size, several, device)


def _views(settings: BackboneSettings, channels: int) -> tuple[OnGrid, ...]:
    """Return the views of the stages, and of the wide layer if there is one."""
    wide = settings.wide
    stages = channels - (wide.channels if wide else 0)
    first: Tail = PartTail(0, stages) if wide else IdentityTail(stages)
    if settings.contrast:
        first = ContrastTail(first, settings.contrast.distance, settings.contrast.share)
    if wide is None:
        return (OnGrid(first, settings.grid),)
    packed = wide.channels // wide.coarser**2
    second = PartTail(stages, stages + packed, wide.coarser)
    return OnGrid(first, settings.grid), OnGrid(second, settings.grid // wide.coarser)
