"""What a user calls an image, as pixels: a path, a PIL image or an array."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bayfed.data import Pixels
from bayfed.data.files import check_pixels, read_pixels, to_rgb
from bayfed.data.layouts.walk import images as images_in
from bayfed.data.layouts.walk import images_below
from bayfed.errors import DataError

Picture = str | Path | Image.Image | NDArray[Any]
"""A path, a PIL image, or a uint8 array of shape ``(H, W, 3)`` or ``(H, W)``."""

MANY = 4
"""Axes of an array of several images."""


def pixels_of(picture: Picture, number: int = 0) -> Pixels:
    """Return ``picture`` as ``(H, W, 3)`` uint8 RGB.

    Args:
        picture: The image.
        number: What a message calls one that is no file.

    Raises:
        DataError: it is no image, or above the limits of :mod:`bayfed.data.files`.

    >>> pixels_of(np.zeros((2, 3), np.uint8)).shape
    (2, 3, 3)
    """
    place = place_of(picture, number)
    if isinstance(picture, str | Path):
        return read_pixels(Path(picture))
    if isinstance(picture, Image.Image):
        try:
            return to_rgb(picture, place)
        except (OSError, ValueError, SyntaxError) as error:  # a file that Pillow opened lazily
            raise DataError(f"{place}: unreadable image ({' '.join(str(error).split())})") from None
    return _from_array(np.asarray(picture), place)


def several(images: Iterable[Picture]) -> list[Picture]:
    """Return images as a list.

    Raises:
        DataError: a single one is given; its letters or rows would pass for many.

    >>> several(("a.png", "b.png"))
    ['a.png', 'b.png']
    """
    one = isinstance(images, str | Path | Image.Image)
    if one or (isinstance(images, np.ndarray) and images.ndim < MANY):
        place = text_of(images) if isinstance(images, str | Path) else "images"
        raise DataError(f"{place}: a list of images is expected, not a single one or a folder")
    return list(images)


def place_of(picture: Picture, number: int) -> str:
    r"""Return what a message calls ``picture``: its path, or its place among those given.

    >>> place_of(np.zeros(1), 3), place_of("caf\udce9.png", 0)
    ('image 3', 'caf\\udce9.png')
    """
    return text_of(picture) if isinstance(picture, str | Path) else f"image {number}"


def text_of(path: str | Path) -> str:
    """Return a path as text, with escapes where its bytes are none."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _from_array(values: NDArray[Any], place: str) -> Pixels:
    grey, colour = values.ndim == 2, values.ndim == 3 and values.shape[-1] == 3
    if values.dtype != np.uint8 or not (grey or colour) or not values.size:
        raise DataError(
            f"{place}: uint8 of shape (H, W, 3) or (H, W) is expected, "
            f"not {values.dtype} of shape {values.shape}"
        )
    check_pixels(values.shape[1], values.shape[0], place)
    return np.repeat(values[:, :, None], 3, axis=2) if grey else values


def digest_of(pixels: Pixels) -> str:
    """Return the SHA-256 of shape and pixels, the same for every file that holds this picture.

    >>> digest_of(np.zeros((1, 1, 3), np.uint8))[:8]
    '5b5b6c1f'
    """
    hashed = hashlib.sha256(repr(pixels.shape).encode())
    hashed.update(np.ascontiguousarray(pixels).tobytes())
    return hashed.hexdigest()


def files_of(paths: Iterable[Path], below: bool = False) -> list[Path]:
    """Return the files among ``paths``, and the image files in the folders among them.

    Args:
        paths: Files and folders.
        below: Whether folders in a folder are looked through as well.

    Raises:
        DataError: a path does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = images_below(path, path) if below else images_in(path, path)
            if not inside:
                raise DataError(f"{path}: no image in this folder")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    return found
