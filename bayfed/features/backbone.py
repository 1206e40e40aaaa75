"""A timm model that returns the maps of chosen stages, and how its input is normalised."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from bayfed.config import Backbone as BackboneSettings
from bayfed.errors import ConfigError, WeightsError
from bayfed.features.conv4 import Conv4
from bayfed.features.tapped import Tapped
from bayfed.features.weights import WeightsFile, inspect_weights, load_into

CONV4 = "conv4"
CONV4_MEAN_STD = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@dataclass(frozen=True)
class Backbone:
    """A network ``(n, 3, s, s) -> list of maps`` with frozen statistics."""

    network: nn.Module
    channels: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    identity: str
    """Names the network and its weights; part of every key under which outputs are stored."""

    def normalise(self, images: Tensor) -> Tensor:
        """Scale ``(n, 3, s, s)`` uint8 to [0, 1], then subtract the mean and divide by the std."""
        mean = torch.tensor(self.mean, device=images.device)[:, None, None]
        std = torch.tensor(self.std, device=images.device)[:, None, None]
        values = images.to(torch.float32, copy=True)
        return values.div_(255).sub_(mean).div_(std)  # in place: a copy costs as much as a division


def build_backbone(settings: BackboneSettings, generator: torch.Generator) -> Backbone:
    """Build Conv-4 or the timm model ``settings.name``.

    Weights come from ``settings.weights`` (never a network call), from timm's hub when
    ``settings.pretrained`` asks for it, or else from ``generator``.

    Raises:
        ConfigError: the model is unknown, or has no such stages.
        WeightsError: the weights do not fit.
    """
    if settings.name == CONV4:
        return _conv4(settings, generator)
    file = inspect_weights(settings.weights, settings.sha256) if settings.weights else None
    network = _timm(settings, file, generator)
    if file is not None:
        load_into(_inner(network), file)
    config = getattr(_inner(network), "pretrained_cfg", {}) or {}
    mean, std = (file.mean, file.std) if file else (config.get("mean"), config.get("std"))
    weights = file.sha256 if file else _content(network)
    if isinstance(network, Tapped):
        channels = network.channels
    else:
        channels = tuple(cast(Any, network).feature_info.channels())
    identity = f"{settings.name}:{weights}:{settings.stages}"
    if settings.wide is not None:
        identity = f"{identity}:{settings.wide}"
    return Backbone(
        network=network.eval().requires_grad_(False).to(memory_format=torch.channels_last),
        channels=channels,
        mean=tuple(mean or (0.485, 0.456, 0.406)),
        std=tuple(std or (0.229, 0.224, 0.225)),
        identity=identity,
    )


def _content(network: nn.Module) -> str:
    """Return the SHA-256 of all tensors: drawn weights differ by seed, a hub's by release."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _conv4(settings: BackboneSettings, generator: torch.Generator) -> Backbone:
    if settings.weights is not None:
        raise ConfigError("backbone.weights: conv4 is trained from scratch and takes no weights")
    if not settings.stages or not set(settings.stages) <= {0, 1, 2, 3}:
        raise ConfigError(f"backbone.stages: conv4 has stages 0 to 3, not {settings.stages}")
    if settings.width % 4:
        raise ConfigError("backbone.width: a multiple of 4 is expected")
    with _global_stream(generator):
        network = Conv4(settings.width, settings.stages)
    _initialise(network, generator)
    return Backbone(
        network, (settings.width,) * len(set(settings.stages)), *CONV4_MEAN_STD, identity=CONV4
    )


def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw every convolution by He's rule from ``generator``, not from the global state."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@contextmanager
def _global_stream(generator: torch.Generator) -> Iterator[None]:
    """Let constructors that draw from torch's global stream draw by ``generator``'s seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        yield


def _inner(network: nn.Module) -> nn.Module:
    """Return the model that holds the tensors of a weights file."""
    inner = getattr(network, "model", network)
    return inner if isinstance(inner, nn.Module) else network


def _stages_only(stages: tuple[int, ...]) -> dict[str, Any]:
    """Return how timm is told to cut a model off behind its stages."""
    return {"features_only": True, "feature_cls": "getter", "out_indices": stages}


def _timm(
    settings: BackboneSettings, file: WeightsFile | None, generator: torch.Generator
) -> nn.Module:
    import timm  # late: it loads torchvision and the compiler, seconds that Conv-4 need not pay

    name, wide = settings.name, settings.wide
    if not timm.is_model(name):
        raise ConfigError(f"backbone.name: unknown backbone {name!r}")
    try:
        with _global_stream(generator):
            network: nn.Module = timm.create_model(
                name,
                pretrained=settings.pretrained and file is None,
                **({} if wide else _stages_only(settings.stages)),
                **dict(file.create if file else ()),
            )
        if wide:
            network = Tapped(network, settings.stages, wide.layer, wide.channels)
    except (IndexError, AssertionError, ValueError) as error:
        raise ConfigError(f"backbone.stages: {name} has no stages {settings.stages}") from error
    except TypeError as error:
        place = file.path if file else "backbone.name"
        raise WeightsError(f"{place}: does not make a {name} ({error})") from error
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"backbone {name!r} cannot be built: {reason}") from error
    if file is None and not settings.pretrained:
        _initialise(network, generator)
    return network
