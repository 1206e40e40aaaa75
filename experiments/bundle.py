"""What a Flower app bundle holds, as one hash that a node can be told to trust.

It imports nothing of the app, so that a node can look at a bundle before any of its code runs.
"""

from __future__ import annotations

import hashlib
import tomllib
import zipfile
from collections.abc import Collection
from functools import lru_cache
from io import BytesIO
from pathlib import Path

MAX_BYTES = 64 << 20
"""Largest accepted bundle, unpacked."""


class UntrustedError(Exception):
    """The app of a run is not one that this node runs."""


def content_hash(bundle: bytes) -> str:
    """Return the SHA-256 of the names and contents of all files in ``bundle``.

    The place of the app, the time and the way of compression do not matter.

    Raises:
        UntrustedError: it is no archive, is too large, or holds a name twice.
    """
    digest = hashlib.sha256()
    for name, content in sorted(_files(bundle).items()):
        digest.update(name.encode() + b"\0")
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def is_installed(bundle: bytes, folder: Path) -> bool:
    """Tell whether ``folder`` holds all of the app in ``bundle``, each file as it is there.

    A process that was killed while it installed an app leaves a part, which Flower would use.
    """
    files = ((name, content) for name, content in _files(bundle).items() if name[:6] != ".info/")
    try:
        return all((folder / name).read_bytes() == content for name, content in files)
    except OSError:
        return False


def check(bundle: bytes, stated: tuple[str, str, str], trusted: Collection[str]) -> None:
    """Check that ``bundle`` is trusted, and that it is the app that would be loaded.

    Args:
        bundle: The app as it came from the server.
        stated: Its id, version and SHA-256 as the server says; Flower loads the app by these.
        trusted: The hashes that the node's administrator trusts, see ``content_hash``.

    Raises:
        UntrustedError: it is not so.
    """
    found = content_hash(bundle)
    if found not in trusted:
        known = ", ".join(sorted(hashed[:12] for hashed in trusted)) or "none"
        raise UntrustedError(
            f"this node does not trust the app of the run, {found}; it trusts {known}: install the "
            f"same version on both sides, or let its administrator run bayfed node trust"
        )
    project = tomllib.loads(_files(bundle)["pyproject.toml"].decode())
    publisher = project["tool"]["flwr"]["app"]["publisher"]
    name, version = project["project"]["name"], project["project"]["version"]
    if stated != (f"{publisher}/{name}", version, hashlib.sha256(bundle).hexdigest()):
        raise UntrustedError("the server names another app than its bundle holds")


@lru_cache(maxsize=1)  # a message asks three times
def _files(bundle: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(BytesIO(bundle)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise UntrustedError(f"the app is larger than {MAX_BYTES} bytes")
            files = {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, RuntimeError) as error:
        raise UntrustedError("the app of the run is no sound archive") from error
    if len(files) < len(entries):
        raise UntrustedError("the app of the run holds a name twice")
    return files
