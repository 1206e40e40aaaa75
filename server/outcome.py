"""How a run has ended, as a file in its folder says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bayfed.errors import DivergedError, one_line
from bayfed.evaluation.atomic import write_atomic

COMPLETED, FAILED, INTERRUPTED, DIVERGED = "completed", "failed", "interrupted", "diverged"
UNHAPPY = frozenset({FAILED, DIVERGED})
"""Ends with a reason for the user."""


def write(path: Path, status: str, reason: str = "") -> None:
    """Replace the outcome at ``path``."""
    write_atomic(path, json.dumps({"status": status, "reason": reason}).encode() + b"\n")


def read(path: Path) -> dict[str, str]:
    """Return the outcome at ``path``, empty if there is none."""
    try:
        outcome = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(outcome, dict):
        return {}
    return {str(key): str(value) for key, value in outcome.items()}


def record(path: Path, error: BaseException) -> None:
    """Write what ``error`` means for the run: a failure, or an end that somebody asked for."""
    if isinstance(error, Exception):
        write(path, DIVERGED if isinstance(error, DivergedError) else FAILED, one_line(error))
    else:
        write(path, INTERRUPTED)


@contextmanager
def recorded(path: Path) -> Iterator[None]:
    """Leave an outcome at ``path`` where the server, run by the body, could not.

    A server that is taken down sees dead workers, and not that somebody has asked for it.
    """
    try:
        yield
    except BaseException as error:
        said = read(path).get("status")
        if said is None or (said == FAILED and not isinstance(error, Exception)):
            with suppress(OSError):
                record(path, error)
        raise
