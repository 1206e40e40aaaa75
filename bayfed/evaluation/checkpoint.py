"""Checkpoints of a run: what a safetensors file of ``checkpoints/`` holds, and how it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from bayfed.errors import CheckpointError
from bayfed.features import Params

SCHEMA = 1
GROUPS = ("theta", "optimizer", "statistics", "calibration")
MAX_BYTES = 8 << 30
HEADER = "bayfed"
"""Key of the metadata under which the header stands, as JSON."""


@dataclass(frozen=True)
class Snapshot:
    """The server after a round.

    Attributes:
        round: rounds completed.
        theta: the meta-parameters.
        optimizer: the state of the server's optimiser.
        statistics: the summed statistics of empirical Bayes, empty if unused.
        calibration: the summed histogram of this round's evaluation, empty without one.
        history: lines of the history up to this round.
    """

    round: int
    theta: Params
    optimizer: dict[str, Tensor]
    statistics: dict[str, Tensor] = field(default_factory=dict)
    calibration: dict[str, Tensor] = field(default_factory=dict)
    history: int = 0


def path_of(folder: Path, number: int) -> Path:
    """Return the file of a round.

    >>> path_of(Path("checkpoints"), 12).name
    'round-00012.safetensors'
    """
    return folder / f"round-{number:05d}.safetensors"


def paths_in(folder: Path) -> list[Path]:
    """Return the checkpoints in ``folder``, the newest first."""
    return sorted(folder.glob("round-*.safetensors"), reverse=True)


def read(path: Path, experiment: str | None) -> Snapshot:
    """Return the snapshot in ``path``.

    Args:
        path: The file.
        experiment: :func:`bayfed.config.experiment_hash` of the settings that it must belong to;
            None = any.

    Raises:
        CheckpointError: the file is damaged, of another version or of another experiment.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointError(f"{path}: larger than {MAX_BYTES >> 30} GiB")
        with safe_open(path, framework="pt") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {})[HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        sound = header["digest"] == digest(tensors)
        numbers = int(header["round"]), int(header["history"])
    except (
        SafetensorError, OSError, KeyError, TypeError, ValueError, OverflowError, RecursionError
    ) as error:  # fmt: skip
        raise CheckpointError(f"{path}: not a readable checkpoint") from error
    if not sound:
        raise CheckpointError(f"{path}: the tensors are not those that were written")
    if header.get("schema") != SCHEMA:
        raise CheckpointError(f"{path}: schema {header.get('schema')}, {SCHEMA} is expected")
    if experiment is not None and header.get("experiment") != experiment:
        raise CheckpointError(f"{path}: belongs to an experiment with other settings")
    groups = {group: group_of(tensors, group) for group in GROUPS}
    return Snapshot(round=numbers[0], history=numbers[1], **groups)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the hash of names and contents that the header repeats."""
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        hashed.update(name.encode() + b"\0" + tensors[name].contiguous().numpy().tobytes())
    return hashed.hexdigest()


def group_of(tensors: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    """Return the tensors of a group, by their names in it.

    >>> sum_, count = Tensor([1.0]), Tensor([2.0])
    >>> group_of({"theta/sum": sum_, "statistics/count": count}, "statistics")
    {'count': tensor([2.])}
    """
    prefix = f"{group}/"
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
