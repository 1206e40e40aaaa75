"""Files that nobody but their owner may read, from their first byte on."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from bayfed.errors import ConfigError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def write_secret(path: Path, content: bytes, replace: bool = False) -> None:
    """Write ``content`` to a new file of mode 600.

    Args:
        path: It must not be there yet, not even as a link.
        content: What is to be kept secret.
        replace: Whether a file that is there goes first.

    Raises:
        ConfigError: the file is there, or cannot be written.
    """
    try:
        if replace:
            path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise ConfigError(f"{path}: is there already and is not replaced") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def read_secret(path: Path) -> bytes:
    """Return the content of a file that its owner alone may read.

    Raises:
        ConfigError: it cannot be read, or others may read it.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise ConfigError(f"{path}: others may read this key, run: chmod 600 {path}")
            return file.read()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def make_private_folder(path: Path) -> None:
    """Create a folder that its owner alone may enter; its parents are created as usual.

    Raises:
        ConfigError: it cannot be created, or is there with something in it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        if any(path.iterdir()):
            raise ConfigError(f"{path}: is not empty, choose another folder")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
