"""Trunk outputs, computed once an image and memory-mapped by every process that needs them."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bayfed.data.site import SiteImage
from bayfed.errors import DataError
from bayfed.features.outputs import trunk_outputs
from bayfed.features.preprocess import Shape, input_shape
from bayfed.features.scratch import scratch_folder
from bayfed.features.trunk import Trunk


def default_directory() -> Path:
    """Return the user's cache folder for features."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "bayfed" / "features"


def _block(path: Path) -> NDArray[np.generic]:
    try:
        block: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
        listed = len(path.with_suffix(".txt").read_text().split())
        if block.ndim == 0 or len(block) != listed:
            raise ValueError(f"{listed} rows are expected")
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: damaged feature block; delete it ({reason})") from None
    return block


@lru_cache(maxsize=4096)
def _rows(listing: Path, _size: int, _modified: int) -> dict[str, int]:
    """Return the row of each digest of a block: a thousand clients would read a million lists."""
    digests = listing.read_text(encoding="ascii", errors="replace").split()
    return {digest: row for row, digest in reversed(list(enumerate(digests)))}


@dataclass(frozen=True)
class StoredFeatures:
    """Trunk outputs of some images, read from memory-mapped blocks on demand."""

    blocks: tuple[NDArray[np.generic], ...]
    rows: dict[str, tuple[int, int]]
    """Image name -> block and row."""

    def read(self, names: Sequence[str], tokens: NDArray[np.intp] | None = None) -> Tensor:
        """Return ``(n, ...)`` outputs of ``names``, in the stored dtype.

        Args:
            names: Images, by ``SiteImage.name``.
            tokens: Positions to keep, for outputs of shape ``(t, c)``.
        """
        picked = []
        for name in names:
            block, row = self.rows[name]
            values = self.blocks[block][row]
            picked.append(values if tokens is None else values[tokens])
        stacked = torch.from_numpy(np.stack(picked))
        self._release()
        return stacked

    def _release(self) -> None:
        """Give the pages back: they stay in the system's cache and leave this process."""
        for block in self.blocks:
            if isinstance(block.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                block.base.madvise(mmap.MADV_DONTNEED)


class FeatureStore:
    """A folder of blocks, keyed by image content and by everything that decides a trunk's output.

    A block is an array file and a list of digests. Both are written under another name
    and renamed, the list last, so that a reader never meets half a block and two writers
    of the same block do no harm.

    Args:
        directory: Folder that may be shared by processes and runs.
        trunk: Computes what is missing.
        image_size: Side of the square input, or of one with as many pixels.
        dtype: ``float16`` or ``float32``; uint8 outputs stay uint8.
        aspect: ``square``, or ``product`` for inputs in the usual proportions of the site.
    """

    def __init__(
        self, directory: Path, trunk: Trunk, image_size: int, dtype: str, aspect: str = "square"
    ) -> None:
        self._trunk = trunk
        self._size = image_size
        self._aspect = aspect
        self._dtype = np.dtype(dtype)
        self._folder = directory / f"{trunk.fingerprint[:24]}-{dtype}"

    def open(self, images: Sequence[SiteImage]) -> StoredFeatures:
        """Return the outputs of ``images``, computing those that no block has.

        Raises:
            DataError: an image cannot be read, or the folder cannot be written.
            NumericalError: an output is not finite.
        """
        digests = [self._digest(image) for image in images]
        known = self._scan(set(digests))
        missing = {d: i for d, i in zip(digests, images, strict=True) if d not in known}
        if missing:
            try:
                self._write(missing)
            except OSError as error:
                raise DataError(f"{self._folder}: {error.strerror or error}") from error
            known = self._scan(set(digests))
        return self._map(images, digests, known)

    def _shape(self, image: SiteImage) -> Shape:
        if self._aspect == "square":
            return self._size, self._size
        return input_shape(image.ratio, self._size)

    def _digest(self, image: SiteImage) -> str:
        """Return what identifies an image's outputs: its content, and the shape it is seen in."""
        shape = self._shape(image)
        if shape == (self._size, self._size):
            return image.digest()
        return hashlib.sha256(repr((image.digest(), shape)).encode()).hexdigest()

    def _scan(self, wanted: set[str]) -> dict[str, tuple[Path, int]]:
        """Return where each wanted digest is kept."""
        found: dict[str, tuple[Path, int]] = {}
        for listing in sorted(self._folder.glob("*.txt")):
            stat = listing.stat()
            rows = _rows(listing, stat.st_size, stat.st_mtime_ns)
            for digest in wanted & rows.keys():
                found.setdefault(digest, (listing.with_suffix(".npy"), rows[digest]))
        return found

    def _map(
        self,
        images: Sequence[SiteImage],
        digests: Sequence[str],
        known: dict[str, tuple[Path, int]],
    ) -> StoredFeatures:
        paths = sorted({path for path, _ in known.values()})
        blocks = tuple(_block(path) for path in paths)
        number = {path: i for i, path in enumerate(paths)}
        rows = {
            image.name: (number[known[digest][0]], known[digest][1])
            for image, digest in zip(images, digests, strict=True)
        }
        return StoredFeatures(blocks, rows)

    def _write(self, missing: dict[str, SiteImage]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        key = hashlib.sha256("\n".join(missing).encode()).hexdigest()[:32]
        with scratch_folder(self._folder) as scratch:
            array, listing = scratch / "block.npy", scratch / "block.txt"
            self._compute(list(missing.values()), array)
            listing.write_text("\n".join(missing))
            array.replace(self._folder / f"{key}.npy")
            listing.replace(self._folder / f"{key}.txt")

    def _compute(self, images: list[SiteImage], path: Path) -> None:
        block: NDArray[np.generic] | None = None
        for rows in self._batches(images):
            chunk = [images[row] for row in rows]
            pictures = [image.pixels() for image in chunk]
            shape = self._shape(chunk[0])
            stored = trunk_outputs(self._trunk, pictures, shape, self._dtype, chunk[0].site)
            if block is None:
                whole = (len(images), *stored.shape[1:])
                block = np.lib.format.open_memmap(path, mode="w+", dtype=stored.dtype, shape=whole)
            block[rows] = stored
        if isinstance(block, np.memmap):
            block.flush()

    def _batches(self, images: Sequence[SiteImage]) -> Iterator[list[int]]:
        """Yield the rows that go through the trunk together, all of one shape."""
        alike: dict[Shape, list[int]] = {}
        for row, image in enumerate(images):
            alike.setdefault(self._shape(image), []).append(row)
        for rows in alike.values():
            for start in range(0, len(rows), self._trunk.batch):
                yield rows[start : start + self._trunk.batch]
