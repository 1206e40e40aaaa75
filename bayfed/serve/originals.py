"""Images under the hash of their content, never under a name from the network."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from bayfed.data import Pixels
from bayfed.data.files import read_pixels
from bayfed.evaluation.atomic import write_atomic
from bayfed.serve.database import storing

_DIGEST = re.compile(r"[0-9a-f]{64}")


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


class Originals:
    """A folder of image files, each kept once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, data: bytes, digest: str) -> None:
        """Store ``data``, whose hash is ``digest``, and synchronise it with the disk.

        Raises:
            StorageError: the disk is full or cannot be written to.
        """
        path = self.path(digest)
        if path.is_file() and path.stat().st_size == len(data):
            return
        with storing():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data)

    def sweep(self) -> None:
        """Remove what a process has begun to write and was killed over."""
        with storing():
            for partial in self._folder.glob("*/.*.partial"):
                partial.unlink(missing_ok=True)

    def folders(self) -> list[Path]:
        """Return the folders that hold the images."""
        return sorted(self._folder.glob("[0-9a-f][0-9a-f]"))

    def older(self, folder: Path, time: float) -> list[Path]:
        """Return the images in ``folder`` that were stored before ``time``."""
        with storing():
            found = [path for path in folder.iterdir() if _DIGEST.fullmatch(path.name)]
            return [path for path in found if path.stat().st_mtime < time]

    def read(self, digest: str) -> Pixels:
        """Return the image.

        Raises:
            DataError: it is gone or damaged.
        """
        return read_pixels(self.path(digest))

    def path(self, digest: str) -> Path:
        """Return where the image lies.

        >>> Originals(Path("images")).path("../" * 3)
        Traceback (most recent call last):
        ValueError: not a SHA-256: '../../../'
        """
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"not a SHA-256: {digest!r}")
        return self._folder / digest[:2] / digest
