"""What the laws of a fitted detector are made of, and how it is kept."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bayfed.features import Params
from bayfed.normality import SufficientStatistics, pack, pool, unpack
from bayfed.normality.statistics import sufficient_statistics  # noqa: F401  # doctest

VECTORS, COUNT, MEAN, SCATTER = "vectors", "count", "mean", "scatter"


class Moments(NamedTuple):
    """Tempered statistics of a support: of each image, and of all together."""

    images: SufficientStatistics
    whole: SufficientStatistics


Support = Moments | Tensor
"""What the laws are made of; ``(k, c)`` vectors where these are fewer than dimensions."""


def count_of(support: Support) -> Tensor:
    """Return how many observations the support is worth, ``()``."""
    if isinstance(support, Tensor):
        return support.new_tensor(support.shape[0])
    return support.whole.count


def moments(images: SufficientStatistics) -> Moments:
    """Return the statistics of each image and of all together.

    >>> images = sufficient_statistics(torch.tensor([[[0.0]], [[2.0]]]))
    >>> moments(images).whole.mean.item()
    1.0
    """
    return Moments(images, pool(images))


def joined(old: Support, new: Support) -> Support:
    """Return the support of the images of both.

    >>> joined(torch.zeros(2, 1), torch.ones(1, 1)).flatten().tolist()
    [0.0, 0.0, 1.0]
    """
    if isinstance(old, Moments) and isinstance(new, Moments):
        images = (torch.cat(pair) for pair in zip(old.images, new.images, strict=True))
        return moments(SufficientStatistics(*images))
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        return torch.cat([old, new])
    raise TypeError("supports of two kinds")


def summed(support: Support) -> Support:
    """Return the support as if all its images were one: the same law from fewer numbers."""
    if isinstance(support, Tensor):
        return support
    return moments(SufficientStatistics(*(value[None] for value in support.whole)))


def to_tensors(support: Support) -> Params:
    """Return what must be kept of a support: of a matrix its lower half, of a sum nothing.

    >>> sorted(to_tensors(moments(sufficient_statistics(torch.ones(2, 3, 4)))))
    ['count', 'mean', 'scatter']
    """
    if isinstance(support, Tensor):
        return {VECTORS: support}
    images = support.images
    return {COUNT: images.count, MEAN: images.mean, SCATTER: pack(images.scatter)}


def from_tensors(tensors: Params) -> Support:
    """Return the support that :func:`to_tensors` has taken apart.

    Raises:
        KeyError: a tensor is missing.
        ValueError: their shapes do not fit each other.
    """
    if VECTORS in tensors:
        if tensors[VECTORS].ndim != 2:
            raise ValueError("support: vectors are expected")
        return tensors[VECTORS]
    count, mean, packed = tensors[COUNT], tensors[MEAN], tensors[SCATTER]
    if mean.ndim != 2 or not mean.numel():
        raise ValueError("support: a mean for each image is expected")
    images, dim = mean.shape
    if count.shape != (images,) or packed.shape != (images, dim * (dim + 1) // 2):
        raise ValueError("support: counts, means and scatters do not fit each other")
    return moments(SufficientStatistics(count, mean, unpack(packed)))
