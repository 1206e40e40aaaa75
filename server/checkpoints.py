"""Checkpoints: all that the server needs to go on after a round, in one safetensors file."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from bayfed.errors import CheckpointError
from bayfed.evaluation.atomic import write_atomic
from bayfed.evaluation.checkpoint import (
    GROUPS,
    HEADER,
    SCHEMA,
    Snapshot,
    digest,
    flat,
    path_of,
    paths_in,
    read,
)
from server.disk import written

__all__ = ["GROUPS", "SCHEMA", "Snapshot", "latest", "path_of", "read", "write"]
log = logging.getLogger("bayfed.server")


def write(folder: Path, snapshot: Snapshot, experiment: str) -> Path:
    """Write ``snapshot`` atomically; ``experiment`` is the hash of the settings.

    Raises:
        CheckpointError: the disk is full or not writable; the files before are as they were.
    """
    tensors = _flat(snapshot)
    header = {
        "schema": SCHEMA,
        "round": snapshot.round,
        "experiment": experiment,
        "history": snapshot.history,
        "streams": {"sampling": snapshot.round},
        "digest": digest(tensors),
    }
    path = path_of(folder, snapshot.round)
    data = save(tensors, metadata={HEADER: json.dumps(header)})
    with written(path, "the run can be resumed from the checkpoint before"):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
    return path


def latest(folder: Path, experiment: str) -> Snapshot | None:
    """Return the newest sound snapshot, ``None`` where no round was ever completed.

    Raises:
        CheckpointError: the newest readable file is of another experiment, or none is readable.
    """
    damaged: CheckpointError | None = None
    for path in paths_in(folder):
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
    tensors = flat({group: getattr(snapshot, group) for group in GROUPS})
    # Copies, as two groups may hold the same tensor and a file may not.
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
