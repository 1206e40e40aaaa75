"""Hashes of what two machines must share: code and weights."""

from __future__ import annotations

import hashlib
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

from bayfed.errors import ConfigError


def tree_hash(folder: Path) -> str:
    """Return the SHA-256 of the names and contents of all ``*.py`` files under ``folder``.

    The place of the folder does not matter, line endings do.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py"), key=lambda p: p.relative_to(folder).as_posix()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes.

    Raises:
        OSError: the file cannot be read.
    """
    found = path.stat()
    return _file_hash(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=8)
def _file_hash(path: Path, _size: int, _modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def fingerprint(*packages: str) -> str:
    """Return one hash for the installed code of ``packages``, the same on every machine.

    >>> fingerprint("bayfed") == fingerprint("bayfed")
    True

    Raises:
        ConfigError: a package cannot be found.
    """
    digest = hashlib.sha256()
    for package in packages:
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(f"package {package!r} is not installed")
        folder = Path(next(iter(spec.submodule_search_locations)))
        digest.update(f"{package}:{tree_hash(folder)}\n".encode())
    return digest.hexdigest()
