"""From decoded pictures to what a trunk makes of them, for the store and for a fitted detector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from bayfed.errors import NumericalError
from bayfed.features.preprocess import Shape, resized
from bayfed.features.trunk import Trunk


def trunk_outputs(
    trunk: Trunk, pictures: Sequence[NDArray[np.uint8]], shape: Shape, dtype: DTypeLike, place: str
) -> NDArray[np.generic]:
    """Return the outputs of at most ``trunk.batch`` pictures.

    Args:
        trunk: Makes them.
        pictures: ``(H, W, 3)`` uint8 each; brought to ``shape``.
        shape: Of the network's input.
        dtype: In which outputs are kept; uint8 ones stay uint8.
        place: What a message calls the pictures.

    Raises:
        NumericalError: an output is not finite in ``dtype``.
    """
    inputs = torch.stack([resized(picture, shape) for picture in pictures])
    outputs = trunk(_filled(inputs, trunk.batch))[: len(pictures)].numpy()
    kept = outputs.dtype if outputs.dtype == np.uint8 else np.dtype(dtype)
    with np.errstate(over="ignore"):
        stored: NDArray[np.generic] = outputs.astype(kept, copy=False)
    if not np.isfinite(stored).all():
        raise NumericalError(f"{place}: features are not finite in {kept}")
    return stored


def _filled(inputs: Tensor, number: int) -> Tensor:
    """Repeat the last picture until there are ``number``."""
    return torch.cat([inputs, inputs[-1:].expand(number - len(inputs), *inputs.shape[1:])])
