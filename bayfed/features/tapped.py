"""A backbone that also gives the outputs of one of its inner layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayfed.errors import ConfigError
from bayfed.seeds import torch_stream

LAYER = "wide"


class Tapped(nn.Module):
    r"""The maps of some stages of a network, and a projection of an inner layer's map.

    .. math:: y_{ij} = P x_{ij}

    with :math:`x_{ij}` the ``c`` channels of the layer and :math:`P` fixed: orthonormal rows,
    drawn once and for all, so that every factory sees the same directions. What lies behind
    the last of these maps is left out.

    Args:
        model: A timm model, whole.
        stages: Numbers of the stages.
        layer: Name of a module with a map as its output.
        channels: Rows of :math:`P`.

    Raises:
        ConfigError: there is no such layer, it is a stage, gives no map, or one of fewer channels;
            or the model cannot be traced.
        IndexError: there is no such stage.
    """

    def __init__(self, model: nn.Module, stages: Sequence[int], layer: str, channels: int) -> None:
        super().__init__()
        from timm.models import create_feature_extractor

        found = [cast(Any, model).feature_info[stage] for stage in stages]
        if layer not in dict(model.named_modules()) or not layer:
            raise ConfigError(f"backbone.wide.layer: the backbone has no layer {layer!r}")
        names = {info["module"]: str(i) for i, info in enumerate(found)}
        if layer in names:
            raise ConfigError(f"backbone.wide.layer: {layer!r} is one of backbone.stages")
        names[layer] = LAYER
        try:
            self.model = create_feature_extractor(model.eval(), names)
            with torch.no_grad():
                maps = self.model(torch.zeros(1, 3, 64, 64))
        except Exception as error:  # whatever keeps torch.fx from following a model
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigError(f"backbone.wide: the backbone cannot be cut up ({reason})") from None
        # What the hub says of the model's input, as a model that is not cut up has it.
        cast(Any, self.model).pretrained_cfg = getattr(model, "pretrained_cfg", None)
        if maps[LAYER].ndim != 4:
            raise ConfigError(f"backbone.wide.layer: {layer!r} gives no map")
        inputs = maps[LAYER].shape[1]
        if inputs < channels:
            raise ConfigError(f"backbone.wide.channels: {layer!r} has {inputs}, not {channels}")
        drawn = torch.randn(inputs, channels, generator=torch_stream(0, LAYER, layer))
        self.register_buffer("projection", torch.linalg.qr(drawn)[0].mT[..., None, None])
        self.channels = (*(maps[str(i)].shape[1] for i in range(len(found))), channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps of the stages, and the projected one."""
        maps = self.model(images)
        wide = F.conv2d(maps.pop(LAYER), self.projection)  # type: ignore[arg-type]
        return [*maps.values(), wide]
