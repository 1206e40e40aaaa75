"""Folders that a user names for what is written."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bayfed.errors import ConfigError, FederationError


def make_folder(path: Path) -> None:
    """Create ``path`` with its parents; one that is there already is left as it is.

    Raises:
        ConfigError: it cannot be created.

    >>> make_folder(Path("/dev/null/run"))
    Traceback (most recent call last):
    bayfed.errors.ConfigError: /dev/null/run: Not a directory
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


@contextmanager
def made_folder(path: Path) -> Iterator[None]:
    """Create ``path`` before the body; where that fails, what was created is not left empty.

    Raises:
        ConfigError: it cannot be created.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    make_folder(path)
    try:
        yield
    except BaseException:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise


@contextmanager
def alone_in(path: Path) -> Iterator[None]:
    """Hold the folder ``path`` during the body, so that no second process writes to it.

    The hold ends with the process, however it ends.

    Raises:
        FederationError: another process holds it.
    """
    folder = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FederationError(f"{path}: another process still writes to it") from error
        yield
    finally:
        os.close(folder)
