"""Conv-4, the small backbone of the few-shot literature, for training from scratch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 4


class Conv4(nn.Module):
    """Four blocks of 3x3 convolution of stride 2, group norm and ReLU.

    Group norm, not batch norm: its statistics are an image's own, so nothing leaks
    between support and query or between training and test.

    Args:
        width: Channels of every block, a multiple of 4.
        stages: Blocks (0 to 3, strides 2 to 16) whose outputs are returned.

    Source: Finn et al. 2017, section 5.2 (strided convolutions; group norm for batch norm).

    >>> import torch
    >>> [m.shape[-1] for m in Conv4(8, (1, 2))(torch.zeros(1, 3, 32, 32))]
    [8, 4]
    """

    def __init__(self, width: int, stages: tuple[int, ...]) -> None:
        super().__init__()
        self.stages = stages
        depth = max(stages) + 1
        self.convolutions = nn.ModuleList(
            nn.Conv2d(3 if i == 0 else width, width, 3, stride=2, padding=1, bias=False)
            for i in range(depth)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, width) for _ in range(depth))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps of the chosen stages of ``(n, 3, h, w)`` normalised images."""
        maps, out = images, []
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            maps = F.relu(norm(convolution(maps)))
            if i in self.stages:
                out.append(maps)
        return out
