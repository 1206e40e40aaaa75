"""Backbone weights from a local safetensors file: no pickle, no network."""

from __future__ import annotations

import inspect
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from bayfed.errors import WeightsError
from bayfed.fingerprint import file_hash

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_BYTES = 2 << 30


@dataclass(frozen=True)
class WeightsFile:
    """What a weights file says of itself."""

    path: Path
    sha256: str
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    create: tuple[tuple[str, Any], ...] = ()
    """Keyword arguments with which the model was built (such as its padding)."""


def _channel_values(metadata: dict[str, str], key: str, default: tuple[float, ...]) -> Any:
    values = json.loads(metadata[key]) if key in metadata else default
    if len(values) != 3 or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
        raise ValueError(f"{key} is not three numbers")
    if key == "std" and min(values) <= 0:
        raise ValueError("std is not positive")
    return tuple(float(v) for v in values)


def _create_kwargs(metadata: dict[str, str]) -> tuple[tuple[str, Any], ...]:
    """Return plain arguments of the model; those of timm itself can open files and addresses."""
    import timm  # late, as in the backbone

    create = json.loads(metadata.get("create_kwargs", "{}"))
    own = inspect.signature(timm.create_model).parameters
    for key, value in create.items():
        if key in own or not isinstance(value, str | int | float | None):
            raise ValueError(f"create_kwargs.{key} is refused")
    return tuple(sorted(create.items()))


def inspect_weights(path: Path, sha256: str | None = None) -> WeightsFile:
    """Read hash and metadata (``mean``, ``std``, ``create_kwargs``) without loading a tensor.

    Args:
        path: The file.
        sha256: The hash that its content must have; None = any.

    Raises:
        WeightsError: the file is missing, too large, not a safetensors file, or another one
            than is expected.
    """
    found = _inspect(path)
    if sha256 not in (None, found.sha256):
        raise WeightsError(
            f"{path}: sha256 {found.sha256[:12]}..., the experiment expects {sha256[:12]}..."
        )
    return found


def _inspect(path: Path) -> WeightsFile:
    try:
        status = path.stat()
        if status.st_size > MAX_BYTES:
            raise WeightsError(f"{path}: weights larger than {MAX_BYTES >> 30} GiB")
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        return WeightsFile(
            path=path,
            sha256=file_hash(path),
            mean=_channel_values(metadata, "mean", IMAGENET_MEAN),
            std=_channel_values(metadata, "std", IMAGENET_STD),
            create=_create_kwargs(metadata),
        )
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path}: not a safetensors weights file ({error})") from error


def load_into(model: nn.Module, file: WeightsFile) -> None:
    """Fill every tensor of ``model`` from ``file``; the file may hold more (a classifier).

    Raises:
        WeightsError: a tensor is missing or has another shape (weights of another model), or
            is not finite.
    """
    wanted = model.state_dict()
    found: dict[str, Tensor] = {}
    with safe_open(file.path, "pt") as tensors:
        names = set(tensors.keys())
        for name, value in wanted.items():
            if name not in names:
                raise WeightsError(f"{file.path}: weights of another model ({name} is missing)")
            tensor = tensors.get_tensor(name)
            if tensor.shape != value.shape:
                raise WeightsError(
                    f"{file.path}: weights of another model ({name} has shape "
                    f"{tuple(tensor.shape)}, not {tuple(value.shape)})"
                )
            if not tensor.isfinite().all():
                raise WeightsError(f"{file.path}: {name} holds NaN or Inf")
            found[name] = tensor
    model.load_state_dict(found)
