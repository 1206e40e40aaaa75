"""PatchCore: the distance to the nearest patch of a memory of good patches.

Locally aware patches are what the trunk gives: each stage is averaged over neighbourhoods
before the stages are brought to one grid. The memory is a greedy coreset of the support's; of a
large support, whose coreset would take minutes, of as many of its patches as a setting says.

Source: Roth et al. 2022, "Towards Total Recall in Industrial Anomaly Detection".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from bayfed.config import PatchCore as Settings
from bayfed.config import top_count
from bayfed.features import Encoder, Params
from bayfed.methods.coreset import greedy_coreset
from bayfed.methods.nearest import nearest_distance
from bayfed.methods.thinned import thinned
from bayfed.methods.untrained import Untrained

PROJECTION = "coreset.projection"


class Memory(NamedTuple):
    """Patches of good images, ``(m, c)``."""

    patches: Tensor


class PatchCore(Untrained[Memory]):
    """The method; see :class:`bayfed.methods.untrained.Untrained`."""

    name = "patchcore"

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        super().__init__(settings, encoder)
        self._settings = settings

    def draw(self, generator: Generator) -> Params:
        """Draw the projection in which the coreset is chosen, if there are channels to spare."""
        channels, dim = self._tail.channels, self._settings.projection
        if channels <= dim:
            return {}
        return {PROJECTION: torch.randn(channels, dim, generator=generator) / dim**0.5}

    def fit(self, params: Params, tokens: Tensor) -> Memory:
        """Keep a coreset of the patches ``(k, t, c)``, or of as many as are candidates."""
        patches = self._candidates(tokens)[0]
        if self._settings.coreset == 1:
            return Memory(patches)
        number = top_count(self._settings.coreset, len(patches))
        return Memory(patches[greedy_coreset(_projected(params, patches), number)[0]])

    def fit_others(
        self, params: Params, tokens: Tensor, parts: Sequence[Tensor]
    ) -> Iterator[Memory]:
        """Choose the coresets of all supports without a part in step."""
        if self._settings.coreset == 1:
            return super().fit_others(params, tokens, parts)
        patches, owner = self._candidates(tokens)
        members = torch.stack([~torch.isin(owner, part.to(owner.device)) for part in parts])
        number = top_count(self._settings.coreset, int(members.sum(-1).min()))
        chosen = greedy_coreset(_projected(params, patches), number, members)
        return (Memory(patches[indices]) for indices in chosen)

    def _candidates(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(n, c)`` patches that a memory may keep, and the image ``(n,)`` of each."""
        patches, each = tokens.flatten(0, 1), tokens.shape[1]
        kept = thinned(len(patches), self._settings.candidates).to(patches.device)
        return patches[kept], kept // each

    def compare(self, params: Params, model: Memory, tokens: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return the distances to the memory, and the largest of each image, reweighted.

        .. math::
            s = \left(1 - \frac{\exp \|x^* - m^*\|}{\sum_{m \in N_b(m^*)} \exp \|x^* - m\|}\right)
            \|x^* - m^*\|

        with :math:`x^*` the patch farthest from the memory, :math:`m^*` the memory patch nearest
        to it and :math:`N_b(m^*)` the :math:`b` memory patches nearest to :math:`m^*`, itself
        the first.

        Source: Roth et al. 2022, equations 6 and 7.
        """
        del params
        distance = nearest_distance(tokens.flatten(0, 1), model.patches).view(tokens.shape[:2])
        image, place = distance.max(-1)
        number = min(self._settings.neighbours or 1, len(model.patches))
        if number > 1:
            farthest = tokens[torch.arange(len(tokens), device=tokens.device), place]
            image = image * _weight(farthest, model.patches, number)
        return image, distance


def _projected(params: Params, patches: Tensor) -> Tensor:
    return patches @ params[PROJECTION] if PROJECTION in params else patches


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Return all distances without the cancellation of a matrix product."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _weight(farthest: Tensor, memory: Tensor, number: int) -> Tensor:
    """Return the weight of equation 7 for ``(q, c)`` patches."""
    nearest = memory[_distances(farthest, memory).argmin(-1)]
    around = _distances(nearest, memory).topk(number, largest=False).indices
    distance = (farthest[:, None] - memory[around]).norm(dim=-1)
    return 1 - torch.softmax(distance, -1)[:, 0]
