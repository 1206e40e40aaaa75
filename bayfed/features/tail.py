"""The trainable part of the encoder: a function of parameters and stored trunk outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from bayfed.features.backbone import Backbone
from bayfed.features.maps import align, pooled, to_tokens

Params = dict[str, Tensor]
PREFIX = "tail."
ADAPTER_WIDTH = 16


class Tail(Protocol):
    """Maps trunk outputs ``(n, ...)`` to tokens ``(n, t, c)``."""

    @property
    def channels(self) -> int:
        """Channels of a token."""

    @property
    def convolves(self) -> bool:
        """Whether a token depends on others, so that a subset must be taken behind the tail."""

    def initial(self, generator: torch.Generator) -> Params:
        """Draw the parameters of round 0; names start with ``tail.``."""

    def __call__(self, params: Params, stored: Tensor) -> Tensor:
        """Map ``(n, ...)`` trunk outputs to ``(n, t, c)`` tokens."""


@dataclass(frozen=True)
class IdentityTail:
    """Nothing trainable before the head: the trunk's tokens as they are."""

    channels: int
    convolves: bool = False

    def initial(self, generator: torch.Generator) -> Params:
        """Return no parameters."""
        del generator
        return {}

    def __call__(self, params: Params, stored: Tensor) -> Tensor:
        """Return the tokens, half precision in single."""
        del params
        return stored.to(torch.promote_types(stored.dtype, torch.float32))


@dataclass(frozen=True)
class AdapterTail:
    r"""A residual bottleneck behind the frozen stages, zero at round 0.

    .. math:: a(x) = x + W_u\,\mathrm{relu}(D * (W_d x))

    ``W_d`` and ``W_u`` are 1x1 convolutions to and from ``ADAPTER_WIDTH`` channels and
    ``D`` a depthwise 3x3 one; ``W_u = 0`` at first, so that training starts from the
    untrained features. Source: Houlsby et al. 2019, section 2.1 (with a depthwise filter).
    """

    channels: int
    pool: bool
    convolves: bool = True

    def initial(self, generator: torch.Generator) -> Params:
        """Draw ``W_d`` and ``D``; ``W_u`` is zero."""
        width = ADAPTER_WIDTH
        down = torch.randn(width, self.channels, 1, 1, generator=generator)
        return {
            f"{PREFIX}down.weight": down / self.channels**0.5,
            f"{PREFIX}depthwise.weight": torch.randn(width, 1, 3, 3, generator=generator) / 3,
            f"{PREFIX}up.weight": torch.zeros(self.channels, width, 1, 1),
        }

    def __call__(self, params: Params, stored: Tensor) -> Tensor:
        """Adapt ``(n, c, h, w)`` smoothed maps, then flatten them."""
        maps = stored.float()
        inside = F.conv2d(maps, params[f"{PREFIX}down.weight"])
        inside = F.conv2d(
            inside, params[f"{PREFIX}depthwise.weight"], padding=1, groups=ADAPTER_WIDTH
        )
        maps = maps + F.conv2d(F.relu(inside), params[f"{PREFIX}up.weight"])
        return pooled([maps]) if self.pool else to_tokens(maps)


@dataclass(frozen=True)
class NetworkTail:
    """The whole backbone, trainable; batch-norm statistics stay frozen."""

    backbone: Backbone
    grid: int
    smoothing: int
    pool: bool
    convolves: bool = True

    @property
    def channels(self) -> int:
        """Channels of a token."""
        return sum(self.backbone.channels)

    def initial(self, generator: torch.Generator) -> Params:
        """Return the backbone's own parameters (drawn or loaded when it was built)."""
        del generator
        return {
            PREFIX + name: value.detach().clone()
            for name, value in self.backbone.network.named_parameters()
        }

    def __call__(self, params: Params, stored: Tensor) -> Tensor:
        """Run the network with ``params`` on ``(n, 3, s, s)`` uint8 pictures."""
        own = {k.removeprefix(PREFIX): v for k, v in params.items() if k.startswith(PREFIX)}
        inputs = self.backbone.normalise(stored)
        maps = functional_call(self.backbone.network, own, (inputs,))
        return pooled(maps) if self.pool else to_tokens(align(maps, self.grid, self.smoothing))
