"""The history of a run: one line of JSON a round."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from bayfed.errors import CheckpointError, ConfigError
from bayfed.evaluation.atomic import write_atomic
from server.disk import written

TIMES = (
    "seconds",
    "seconds_compute",
    "seconds_compute_max",
    "seconds_compute_sum",
    "seconds_overhead",
    "training_seconds",
)
"""Fields that differ between two runs of the same experiment."""
AUROC = "mean_image_auroc"
"""Field that is null where a round was not evaluated."""
_ADVICE = "the run can be resumed from the last checkpoint"


def append(path: Path, line: dict[str, Any]) -> None:
    """Add one line and force it to the disk; a number that is not finite becomes null.

    Raises:
        CheckpointError: the disk is full or not writable.
    """
    with written(path, _ADVICE), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(_finite(line), allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of the history, none where the file is missing.

    Raises:
        CheckpointError: a complete line is not JSON.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise CheckpointError(f"{path}: a line is not JSON") from error


def cut(path: Path, lines: int) -> None:
    """Keep the first ``lines`` lines, those that the checkpoint knows of.

    Raises:
        CheckpointError: the history is shorter than that, or cannot be written.
    """
    kept = path.read_bytes().split(b"\n")[:-1][:lines] if path.exists() else []
    if len(kept) < lines:
        raise CheckpointError(f"{path}: {lines} lines are expected, {len(kept)} found")
    with written(path, _ADVICE):
        write_atomic(path, b"".join(line + b"\n" for line in kept))


def check_rounds(line: dict[str, Any], rounds: int) -> None:
    """Check that a run which goes on has rounds to come, or was evaluated after its last one.

    Args:
        line: The last one of the history.
        rounds: So many are asked for.

    Raises:
        ConfigError: it has not.
    """
    done, evaluated = int(line["round"]), line.get(AUROC) is not None
    if done > rounds or (done == rounds and not evaluated):
        rest = "" if evaluated else f" and the last was not evaluated: ask for more than {done}"
        raise ConfigError(f"federation.rounds: {rounds}, but {done} are done{rest}")


def without_times(value: Any) -> Any:
    """Return a line, or a part of it, without what depends on the machine's speed.

    >>> without_times({"round": 1, "seconds": 2.0, "clients": [{"loss": 1.0, "seconds": 3.0}]})
    {'round': 1, 'clients': [{'loss': 1.0}]}
    """
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
