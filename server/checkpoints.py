"""Checkpoints: all that the server needs to go on after a round, in one safetensors file."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bayfed.errors import CheckpointError
from bayfed.evaluation.atomic import write_atomic
from strategies.task import Params

SCHEMA = 1
GROUPS = ("theta", "optimizer", "statistics", "calibration")
log = logging.getLogger("bayfed.server")


@dataclass(frozen=True)
class Snapshot:
    """The server after a round.

    Attributes:
        round: rounds completed.
        theta: the meta-parameters.
        optimizer: the state of the server's optimiser.
        statistics: the summed statistics of empirical Bayes, empty if unused.
        calibration: the summed histogram of the last evaluation.
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


def write(folder: Path, snapshot: Snapshot, experiment: str) -> Path:
    """Write ``snapshot`` atomically; ``experiment`` is the hash of the settings."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = _flat(snapshot)
    header = {
        "schema": SCHEMA,
        "round": snapshot.round,
        "experiment": experiment,
        "history": snapshot.history,
        "streams": {"sampling": snapshot.round},
        "digest": _digest(tensors),
    }
    path = path_of(folder, snapshot.round)
    write_atomic(path, save(tensors, metadata={"bayfed": json.dumps(header)}))
    return path


def read(path: Path, experiment: str) -> Snapshot:
    """Return the snapshot in ``path``.

    Raises:
        CheckpointError: the file is damaged, of another version or of another experiment.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["bayfed"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        sound = header["digest"] == _digest(tensors)
        fields = int(header["round"]), int(header["history"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint") from error
    if not sound:
        raise CheckpointError(f"{path}: the tensors are not those that were written")
    if header.get("schema") != SCHEMA:
        raise CheckpointError(f"{path}: schema {header.get('schema')}, {SCHEMA} is expected")
    if header.get("experiment") != experiment:
        raise CheckpointError(f"{path}: belongs to an experiment with other settings")
    groups = {group: _group(tensors, group) for group in GROUPS}
    return Snapshot(round=fields[0], history=fields[1], **groups)


def latest(folder: Path, experiment: str) -> Snapshot | None:
    """Return the newest sound snapshot, ``None`` where no round was ever completed.

    Raises:
        CheckpointError: the newest readable file is of another experiment, or none is readable.
    """
    paths = sorted(folder.glob("round-*.safetensors"), reverse=True)
    damaged: CheckpointError | None = None
    for path in paths:
        try:
            return read(path, experiment)
        except CheckpointError as error:
            if "belongs to" in str(error):
                raise
            log.warning("%s; trying the one before", error)
            damaged = damaged or error
    if damaged is not None:
        raise damaged
    return None


def _flat(snapshot: Snapshot) -> dict[str, Tensor]:
    return {
        f"{group}/{name}": tensor.detach().cpu().contiguous()
        for group in GROUPS
        for name, tensor in getattr(snapshot, group).items()
    }


def _group(tensors: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    prefix = f"{group}/"
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + b"\0" + tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
