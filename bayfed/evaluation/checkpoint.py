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
GROUPS = ("theta", "optimizer", "personal", "statistics", "calibration")
MAX_BYTES = 8 << 30
HEADER = "bayfed"
"""Key of the metadata under which the header stands, as JSON."""


@dataclass(frozen=True)
class Snapshot:
    """The server after a round.

    Attributes:
        round: rounds completed.
        theta: the shared meta-parameters.
        optimizer: the state of the server's optimisers.
        personal: what single clients add to ``theta``, under names ``client/parameter``.
        statistics: the summed statistics of empirical Bayes, empty if unused.
        calibration: the summed histogram of this round's evaluation, empty without one.
        history: lines of the history up to this round.
    """

    round: int
    theta: Params
    optimizer: dict[str, Tensor]
    personal: dict[str, Tensor] = field(default_factory=dict)
    statistics: dict[str, Tensor] = field(default_factory=dict)
    calibration: dict[str, Tensor] = field(default_factory=dict)
    history: int = 0

    @property
    def owners(self) -> dict[str, Params]:
        """By site, what its client adds; a client is called by its sites, joined by ``+``."""
        clients = nested(self.personal).items()
        return {site: residual for client, residual in clients for site in client.split("+")}

    def theta_of(self, site: str) -> Params:
        """Return the meta-parameters of ``site``: the shared ones where it has nothing personal."""
        return added(self.theta, self.owners.get(site, {}))


def added(theta: Params, residual: Params) -> Params:
    """Return ``theta`` with ``residual`` added where it has an entry.

    >>> import torch
    >>> added({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, {"b": torch.tensor(3.0)})
    {'a': tensor(1.), 'b': tensor(5.)}
    """
    return theta | {name: theta[name] + delta for name, delta in residual.items()}


def flat(groups: Mapping[str, Params]) -> Params:
    """Return the tensors of all groups under names ``group/name``."""
    return {f"{group}/{name}": t for group, own in groups.items() for name, t in own.items()}


def nested(tensors: Params) -> dict[str, Params]:
    """Return the groups behind names ``group/name``, in which a group has no ``/``.

    >>> nested(flat({"a": {"x": 1, "m/x": 2}, "b": {"x": 3}}))
    {'a': {'x': 1, 'm/x': 2}, 'b': {'x': 3}}
    """
    groups: dict[str, Params] = {}
    for key, tensor in tensors.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = tensor
    return groups


def path_of(folder: Path, number: int) -> Path:
    """Return the file of a round.

    >>> path_of(Path("checkpoints"), 12).name
    'round-00012.safetensors'
    """
    return folder / f"round-{number:05d}.safetensors"


def paths_in(folder: Path) -> list[Path]:
    """Return the checkpoints in ``folder``, the newest first."""
    return sorted(folder.glob("round-*.safetensors"), reverse=True)


def contents(path: Path) -> tuple[dict[str, str], Params]:
    """Return the metadata and the tensors of any safetensors file.

    Raises:
        SafetensorError: it is damaged.
        OSError: it cannot be read.
    """
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return file.metadata() or {}, tensors


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
        metadata, tensors = contents(path)
        header: dict[str, Any] = json.loads(metadata[HEADER])
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
    groups = nested(tensors)
    theta = groups.get("theta", {})
    for residual in nested(groups.get("personal", {})).values():
        if any(name not in theta or theta[name].shape != t.shape for name, t in residual.items()):
            raise CheckpointError(f"{path}: a client's own parameters are not those of the others")
    kept = {group: groups.get(group, {}) for group in GROUPS}
    return Snapshot(round=numbers[0], history=numbers[1], **kept)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the hash of names and contents that the header repeats."""
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        hashed.update(name.encode() + b"\0" + tensors[name].contiguous().numpy().tobytes())
    return hashed.hexdigest()
