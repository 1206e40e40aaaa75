"""Tensors as one vector, and back."""

from __future__ import annotations

import numpy as np
import torch

from strategies.coding import Vector
from strategies.task import Params


def sizes(tensors: Params) -> list[int]:
    """Return the number of coordinates of each tensor."""
    return [tensor.numel() for tensor in tensors.values()]


def flat(tensors: Params) -> Vector:
    """Return the coordinates of all tensors, one after the other."""
    parts = [tensor.detach().cpu().reshape(-1).float().numpy() for tensor in tensors.values()]
    return np.concatenate([np.zeros(0, dtype=np.float32), *parts])


def cut(vector: Vector, like: Params) -> Params:
    """Return ``vector`` as tensors with the names, shapes and types of ``like``.

    >>> like = {"a": torch.zeros(()), "b": torch.zeros(2)}
    >>> cut(flat({"a": torch.ones(()), "b": torch.ones(2)}), like)
    {'a': tensor(1.), 'b': tensor([1., 1.])}
    """
    parts = torch.split(torch.from_numpy(vector), sizes(like))
    return {
        k: part.reshape(t.shape).to(t) for (k, t), part in zip(like.items(), parts, strict=True)
    }
