"""Images turned in their own frame, for supports that are to look alike from every side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayfed.data.site import Mask, Pixels, SiteImage

VERSION = 2
"""Part of every digest; raise it with any change to how an image is turned."""


class Pose(NamedTuple):
    """How a picture is turned in its own frame.

    Attributes:
        degrees: Counter-clockwise, after it was mirrored.
        mirrored: Left and right swapped.
    """

    degrees: float = 0.0
    mirrored: bool = False


Poses = tuple[Pose, ...]
"""The pictures that a method wants of each support image, the image itself the first."""
UPRIGHT: Poses = (Pose(),)
MIRRORED: Poses = (Pose(), Pose(mirrored=True), Pose(180.0, mirrored=True))
"""Itself, its mirror image from left to right, and the one from top to bottom."""


def rotations(number: int) -> Poses:
    """Return ``number`` rotations, evenly spaced over the circle.

    >>> [pose.degrees for pose in rotations(4)]
    [0.0, 90.0, 180.0, 270.0]
    """
    return tuple(Pose(360 * i / number) for i in range(number))


@dataclass(frozen=True)
class TurnedSource:
    """An image turned about its centre, its frame kept and filled by reflection.

    Attributes:
        image: What is turned.
        pose: How.
    """

    image: SiteImage
    pose: Pose

    def pixels(self) -> Pixels:
        """Decode the image and turn it."""
        return turn(self.image.pixels(), self.pose)

    def mask(self) -> Mask | None:
        """Turn the mask, where it is known."""
        mask = self.image.mask()
        return None if mask is None else turn(mask.astype(np.uint8), self.pose, 0) > 0

    def size(self) -> tuple[int, int]:
        """Return (height, width), those of the image."""
        return self.image.size()

    def digest(self) -> str:
        """Return the SHA-256 of the image's digest and of the pose."""
        text = repr((VERSION, self.image.digest(), *map(float, self.pose)))
        return hashlib.sha256(text.encode()).hexdigest()


def turn(values: NDArray[np.uint8], pose: Pose, order: Literal[0, 1] = 1) -> NDArray[np.uint8]:
    """Turn by the nearest pixel (order 0) or bilinearly (1), reflecting at the border.

    >>> turn(np.array([[1, 2]], np.uint8), Pose(mirrored=True)).tolist()
    [[2, 1]]
    """
    if pose.mirrored:
        values = values[:, ::-1]
    if pose.degrees % 180 == 0:
        return np.rot90(values, round(pose.degrees / 90))
    from scipy import ndimage  # late: only who turns by other angles pays for it

    return ndimage.rotate(values, pose.degrees, reshape=False, order=order, mode="reflect")


def turned(image: SiteImage, poses: Poses) -> tuple[SiteImage, ...]:
    """Return ``image`` and the pictures of it in all ``poses`` but the first.

    They are turned when asked for. ``SiteImage.base`` names the image behind each.

    >>> from bayfed.data.files import FileSource
    >>> from pathlib import Path
    >>> part = SiteImage("part", "train/good/0.png", None, FileSource(Path("0.png")))
    >>> [one.name for one in turned(part, (*rotations(2), Pose(90, mirrored=True)))]
    ['train/good/0.png', 'train/good/0.png@180', 'train/good/0.png@m90']
    """
    copies = (
        SiteImage(
            image.site,
            f"{image.name}@{'m' * pose.mirrored}{pose.degrees:g}",
            image.defect,
            TurnedSource(image, pose),
            image.base or image.name,
            proportion=image.proportion,
        )
        for pose in poses[1:]
    )
    return (image, *copies)


def posed(images: Iterable[SiteImage], poses: Poses) -> list[SiteImage]:
    """Return the pictures of all ``images``, the poses of each in a row."""
    return [picture for image in images for picture in turned(image, poses)]
