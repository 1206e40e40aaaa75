"""Encoder = frozen trunk + trainable tail, by the experiment's settings."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bayfed.config import Experiment
from bayfed.errors import ConfigError
from bayfed.features.backbone import CONV4, Backbone, build_backbone
from bayfed.features.tail import AdapterTail, IdentityTail, NetworkTail, Tail
from bayfed.features.trunk import FrozenTrunk, IdentityTrunk, Trunk
from bayfed.seeds import torch_stream


@dataclass(frozen=True)
class Encoder:
    """Both parts, and the grid their tokens lie on (1 at the image grain)."""

    trunk: Trunk
    tail: Tail
    grid: int
    image_size: int


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

    Raises:
        ConfigError: the backbone or its settings are unknown.
        WeightsError: the weights do not fit.
    """
    settings = experiment.backbone
    if settings.name == CONV4 and settings.trainable != "all":
        raise ConfigError("backbone.trainable: conv4 has no pretrained weights to freeze; use all")
    backbone = build_backbone(settings, torch_stream(experiment.seed, "backbone"))
    backbone.network.to(device)
    pool = experiment.method.grain == "image"
    trunk, tail = _parts(experiment, backbone, pool, device)
    return Encoder(trunk, tail, 1 if pool else settings.grid, settings.image_size)


def _parts(
    experiment: Experiment, backbone: Backbone, pool: bool, device: torch.device
) -> tuple[Trunk, Tail]:
    settings = experiment.backbone
    if settings.trainable == "all":
        tail = NetworkTail(backbone, settings.grid, settings.smoothing, pool)
        return IdentityTrunk(settings.image_size), tail
    channels = sum(backbone.channels)
    if settings.trainable == "adapters":
        trunk = FrozenTrunk(backbone, settings, "maps", device)
        return trunk, AdapterTail(channels, pool)
    trunk = FrozenTrunk(backbone, settings, "pooled" if pool else "tokens", device)
    return trunk, IdentityTail(channels)
