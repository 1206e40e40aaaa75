"""Folders for files that are being written, and the removal of those that a crash has left."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = ".writing-"
_LOCK = "lock"
_FRESH = 60.0
"""Seconds within which a new folder may still be without its lock."""


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Yield a folder in ``parent`` that is removed at the end, and first those left by the dead.

    A lock, which ends with its process, tells the living from the dead. A folder on which no
    lock can be had (some file systems know none) is left alone.
    """
    _remove_left(parent)
    with (
        tempfile.TemporaryDirectory(dir=parent, prefix=PREFIX) as folder,
        (Path(folder) / _LOCK).open("w") as lock,
    ):
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(folder)


def _remove_left(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # gone in between, or somebody else's
            if time.time() - folder.stat().st_mtime > _FRESH and _is_free(folder / _LOCK):
                shutil.rmtree(folder)


def _is_free(lock: Path) -> bool:
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
