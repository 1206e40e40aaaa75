"""What the tensors of an update must be like."""

from __future__ import annotations

import torch
from torch import Tensor

from strategies.task import Params


def mismatch(update: Params, template: Params) -> str | None:
    """Return how ``update`` differs in names, shapes or types, or where it is not finite.

    >>> mismatch({"w": torch.ones(2)}, {"w": torch.ones(3)})
    "tensor 'w' has shape (2,), (3,) is expected"
    """
    if update.keys() != template.keys():
        name = min(update.keys() ^ template.keys())
        return f"tensor {name!r} is {'missing' if name in template else 'not expected'}"
    reasons = (_tensor_mismatch(name, update[name], template[name]) for name in sorted(template))
    return next((reason for reason in reasons if reason), None)


def _tensor_mismatch(name: str, value: Tensor, template: Tensor) -> str | None:
    if value.shape != template.shape:
        shapes = f"{tuple(value.shape)}, {tuple(template.shape)} is expected"
        return f"tensor {name!r} has shape {shapes}"
    if value.dtype != template.dtype:
        return f"tensor {name!r} has dtype {value.dtype}, {template.dtype} is expected"
    if not bool(torch.isfinite(value).all()):
        return f"tensor {name!r} holds NaN or Inf"
    return None
