"""What is said where a file of a run cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bayfed.errors import BayfedError, CheckpointError


@contextmanager
def written(
    path: Path, advice: str = "", kind: type[BayfedError] = CheckpointError
) -> Iterator[None]:
    """Name the file that could not be written inside.

    Args:
        path: The file.
        advice: What can be done.
        kind: Of error.

    Raises:
        BayfedError: the disk is full or not writable.

    >>> with written(Path("run/metrics.jsonl"), "make room"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    bayfed.errors.CheckpointError: run/metrics.jsonl: cannot be written (No space left on ...
    """
    try:
        yield
    except OSError as error:
        rest = f"; {advice}" if advice else ""
        raise kind(f"{path}: cannot be written ({error.strerror or error}){rest}") from error
