"""Listing folders without ever leaving the root."""

from __future__ import annotations

from pathlib import Path

from bayfed.data.files import SUFFIXES
from bayfed.errors import DataError


def inside(path: Path, root: Path) -> Path:
    """Return ``path`` if it lies under ``root`` once links and ``..`` are followed.

    Raises:
        DataError: it leads out of the root.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{path}: leads out of {root}")
    return path


def _entries(folder: Path, root: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    inside(folder, root)
    try:
        found = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error}") from error
    return [inside(entry, root) if entry.is_symlink() else entry for entry in found]


def images(folder: Path, root: Path) -> list[Path]:
    """Return the image files directly in ``folder``, sorted; none where it does not exist."""
    return [
        entry
        for entry in _entries(folder, root)
        if entry.suffix.lower() in SUFFIXES and entry.is_file()
    ]


def folders(folder: Path, root: Path) -> list[Path]:
    """Return the folders directly in ``folder``, sorted; none where it does not exist."""
    return [entry for entry in _entries(folder, root) if entry.is_dir()]


def images_below(folder: Path, root: Path) -> list[Path]:
    """Return the image files in ``folder`` and in the folders in it, each folder's own first."""
    found = images(folder, root)
    for inner in folders(folder, root):
        if not inner.is_symlink():  # it could lead back up
            found += images_below(inner, root)
    return found


def by_stem(folder: Path, root: Path) -> dict[str, Path]:
    """Return the image files of ``folder`` by their name without suffix."""
    return {path.stem: path for path in images(folder, root)}


def own_name(root: Path) -> str:
    """Return the name of a root that is itself one site."""
    return root.resolve().name or "site"
