"""Folders that a user names for what is written."""

from __future__ import annotations

from pathlib import Path

from bayfed.errors import ConfigError


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
