"""How a run has ended, as a file in its folder says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bayfed.errors import DivergedError, FederationError, one_line
from bayfed.evaluation.atomic import write_atomic

COMPLETED, FAILED, INTERRUPTED, DIVERGED = "completed", "failed", "interrupted", "diverged"
UNHAPPY = frozenset({FAILED, DIVERGED})
"""Ends with a reason for the user."""
_ROOM = 1 << 16
"""Bytes without which a server could not have said why it has ended."""


def write(path: Path, status: str, reason: str = "") -> None:
    """Replace the outcome at ``path``.

    Raises:
        OSError: it cannot be written.
    """
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


def require_room(path: Path) -> None:
    """Check that an outcome could be written to ``path``, where a server has left none.

    Raises:
        FederationError: nothing can be written there, now or at another attempt.
    """
    probe = path.with_name(".room")
    try:
        write_atomic(probe, bytes(_ROOM))
        probe.unlink()
    except OSError as error:
        raise FederationError(
            f"{path.parent}: cannot be written to ({error.strerror or error}); the run can be "
            "resumed from its last checkpoint"
        ) from error


def record(path: Path, error: BaseException) -> None:
    """Write what ``error`` means for the run: a failure, or an end that somebody asked for.

    Where the disk is full nothing is written: the error itself tells more.
    """
    with suppress(OSError):
        _record(path, error)


def _record(path: Path, error: BaseException) -> None:
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
            record(path, error)
        raise
