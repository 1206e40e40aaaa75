"""Image files, read as hostile input: limits first, decoding second."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from bayfed.data.site import Mask, Pixels
from bayfed.errors import DataError

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 50_000_000
FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
"""Decoders allowed: Pillow has others, some of which start programs."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_WITH_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Header:
    """What a file says of its image before decoding.

    Attributes:
        size: (height, width) after the EXIF orientation.
        mode: Pillow's mode, such as ``L``, ``RGB`` or ``I;16``.
    """

    size: tuple[int, int]
    mode: str


def _read_bytes(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path}: {size / 2**20:.0f} MB, the limit is {MAX_BYTES >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into one line that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except DataError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DataError(f"{path}: more than {MAX_PIXELS // 10**6} megapixels") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not a {', '.join(FORMATS)} image") from None
    except Exception as error:  # damaged bytes make decoders raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: unreadable image ({reason})") from error


def _open(path: Path, data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(f"{path}: {width} x {height} is more than {MAX_PIXELS // 10**6} megapixels")
    return image


def _decode(path: Path, data: bytes) -> Image.Image:
    image = _open(path, data)
    image.load()
    return ImageOps.exif_transpose(image)


def _from_sixteen_bit(path: Path, image: Image.Image) -> Pixels:
    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise DataError(f"{path}: grey values outside 16 bit")
    grey = np.rint(values / 257).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _on_black(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, image).convert("RGB")


def read_header(path: Path) -> Header:
    """Return size and mode without decoding.

    Raises:
        DataError: the file is no image, or is above the limits.
    """
    return header_of(_read_bytes(path), path)


def header_of(data: bytes, path: Path) -> Header:
    """Return size and mode of a file that has been read already; ``path`` is for messages.

    Raises:
        DataError: as for :func:`read_header`.
    """
    with _decoding(path):
        image = _open(path, data)
        width, height = image.size
        turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        return Header((width, height) if turned else (height, width), image.mode)


def read_pixels(path: Path) -> Pixels:
    """Return the image of a file as (H, W, 3) uint8 RGB.

    Grey is repeated in the three channels, 16-bit grey is scaled from its full
    range (65535 -> 255), transparency is composited on black, palettes and CMYK
    are converted, the EXIF orientation is applied, and of several frames the
    first is taken.

    Raises:
        DataError: the file is missing, damaged, of another format, or above the
            limits of 64 MB and 50 megapixels.
    """
    return pixels_of(_read_bytes(path), path)


def pixels_of(data: bytes, path: Path) -> Pixels:
    """Return the image of a file that has been read already; ``path`` is for messages.

    Raises:
        DataError: as for :func:`read_pixels`.
    """
    with _decoding(path):
        image = _decode(path, data)
        if image.mode == "F":
            raise DataError(f"{path}: floating-point images have no known range")
        if image.mode in _SIXTEEN_BIT:
            return _from_sixteen_bit(path, image)
        if image.mode in _WITH_ALPHA or "transparency" in image.info:
            image = _on_black(image)
        return np.array(image.convert("RGB"), dtype=np.uint8)


def read_mask(path: Path) -> Mask:
    """Return the mask of a file: True where any channel is above 0.

    Raises:
        DataError: as for :func:`read_pixels`.
    """
    data = _read_bytes(path)
    with _decoding(path):
        image = _decode(path, data)
        if image.mode in ("P", *_WITH_ALPHA):
            image = _on_black(image)
        values = np.asarray(image)
        return np.asarray(values.any(axis=2) if values.ndim == 3 else values > 0, dtype=np.bool_)


def _check_size(path: Path, found: tuple[int, ...], size: tuple[int, int]) -> None:
    if found != size:
        raise DataError(
            f"{path}: mask of {found[1]} x {found[0]} pixels for an image of {size[1]} x {size[0]}"
        )


@dataclass(frozen=True)
class FileSource:
    """An image file and, where there is one, the file of its mask.

    >>> FileSource(Path("missing.png")).pixels()
    Traceback (most recent call last):
        ...
    bayfed.errors.DataError: missing.png: no such file
    """

    path: Path
    mask_path: Path | None = None

    def pixels(self) -> Pixels:
        """Decode the file (:func:`read_pixels`)."""
        return read_pixels(self.path)

    def size(self) -> tuple[int, int]:
        """Return (height, width) from the header."""
        return read_header(self.path).size

    def mask(self) -> Mask | None:
        """Decode the mask.

        Raises:
            DataError: the mask is unreadable or not of the image's size.
        """
        if self.mask_path is None:
            return None
        mask = read_mask(self.mask_path)
        _check_size(self.mask_path, mask.shape, self.size())
        return mask

    def check_mask(self) -> None:
        """Check the mask by its header alone.

        Raises:
            DataError: it is no image, or not of the image's size.
        """
        if self.mask_path is not None:
            _check_size(self.mask_path, read_header(self.mask_path).size, self.size())

    def digest(self) -> str:
        """Return the SHA-256 of the image file's bytes."""
        return hashlib.sha256(_read_bytes(self.path)).hexdigest()
