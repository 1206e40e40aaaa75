"""Fields and shapes that the procedural products and defects are drawn with.

Lengths are in units of half the shorter side, so a drawing looks the same at
every resolution. Values are float32; colours are linear in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Field = NDArray[np.floating[Any]]
"""(H, W)."""
Colours = NDArray[np.floating[Any]]
"""(3, H, W): planes, so that a field times a picture needs no new axis and is quick."""
Colour = NDArray[np.floating[Any]]
"""(3, 1, 1)."""
Rng = np.random.Generator
Shape = tuple[int, int]


@dataclass(frozen=True)
class Part:
    """A drawn part before the camera sees it.

    Attributes:
        rgb: (3, H, W) colours.
        fore: (H, W) coverage of the product, 1 inside and 0 on the background.
    """

    rgb: Colours
    fore: Field


@lru_cache(maxsize=16)
def grid(shape: Shape) -> tuple[Field, Field]:
    """Return the coordinates (x, y) of the pixel centres, the shorter side from -1 to 1.

    >>> x, y = grid((2, 4))
    >>> x[0].tolist(), y[:, 0].tolist()
    ([-1.5, -0.5, 0.5, 1.5], [-0.5, 0.5])
    """
    height, width = shape
    unit = 2.0 / min(shape)
    across = (np.arange(width, dtype=np.float32) - (width - 1) / 2) * unit
    down = (np.arange(height, dtype=np.float32) - (height - 1) / 2) * unit
    x, y = np.meshgrid(across.astype(np.float32), down.astype(np.float32))
    x.flags.writeable = y.flags.writeable = False
    return x, y


@lru_cache(maxsize=512)
def _interpolation(length: int, knots: int) -> tuple[Field, Field]:
    """Return (length, knots) Gaussian weights whose rows have unit norm, and their transpose."""
    at = np.linspace(0.5, knots - 1.5, length) if knots > 2 else np.linspace(0, knots - 1, length)
    weights = np.exp(-0.5 * ((at[:, None] - np.arange(knots)) / 0.55) ** 2)
    weights[weights < 1e-7] = 0  # subnormal numbers make the products 20 times slower
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    single = weights.astype(np.float32)
    return single, np.ascontiguousarray(single.T)


def noise(rng: Rng, shape: Shape, across: float, down: float | None = None) -> Field:
    """Return smooth Gaussian noise of mean 0 and variance 1 at every pixel.

    Args:
        rng: the stream that it is drawn from.
        shape: (height, width).
        across: cells along x in a length of the shorter side.
        down: cells along y; None = as many as along x.
    """
    height, width = shape
    shorter = min(shape)
    columns = round(across * width / shorter) + 3
    rows = round((across if down is None else down) * height / shorter) + 3
    knots = rng.standard_normal((rows, columns), dtype=np.float32)
    field: Field = _interpolation(height, rows)[0] @ knots @ _interpolation(width, columns)[1]
    return field


def turned(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    """Return the coordinates in axes turned by ``angle`` radians."""
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * x + s * y, c * y - s * x


def ramp(low: float, high: float, value: Field) -> Field:
    """Return the smooth step from 0 at ``low`` to 1 at ``high`` (either order)."""
    t: Field = np.clip((value - low) / np.float32(high - low), 0, 1)
    stepped: Field = t * t * (3 - 2 * t)
    return stepped


def bell(square: Field) -> Field:
    """Return exp(-``square``), cut off before it becomes a subnormal (slow) number."""
    curve: Field = np.exp(-np.minimum(square, np.float32(30)))
    return curve


def inside(distance: Field, soft: float = 0.02) -> Field:
    """Return the coverage of the shape with signed ``distance`` (negative inside)."""
    cover: Field = np.clip(0.5 - distance / np.float32(soft), 0, 1).astype(np.float32)
    return cover


def box(x: Field, y: Field, half_x: float, half_y: float, radius: float = 0.0) -> Field:
    """Return the signed distance to a box with rounded corners."""
    dx = np.abs(x) - np.float32(half_x - radius)
    dy = np.abs(y) - np.float32(half_y - radius)
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    distance: Field = outside + np.minimum(np.maximum(dx, dy), 0) - np.float32(radius)
    return distance


def polygon(x: Field, y: Field, sides: int, radius: float) -> Field:
    """Return the (approximate) signed distance to a regular polygon of inner ``radius``."""
    distance = np.full_like(x, -np.inf)
    for side in range(sides):
        angle = 2 * np.pi * side / sides
        np.maximum(distance, turned(x, y, angle)[0], out=distance)
    return distance - np.float32(radius)


def mix(below: Colours, above: Colours | Colour, cover: Field) -> Colours:
    """Return ``above`` (a colour or a picture) laid over ``below`` with coverage ``cover``."""
    return below + (above - below) * cover


def lit(height: Field, strength: float, angle: float = -2.2) -> Field:
    """Return the brightness factor of a relief lit from ``angle``.

    1 on level ground, above 1 on slopes that face the light.
    """
    down, across = np.gradient(height)
    scale = min(height.shape) / 2
    slope = across * np.float32(np.cos(angle)) + down * np.float32(np.sin(angle))
    factor: Field = 1 + np.clip(np.asarray(slope) * np.float32(scale * strength), -0.6, 0.9)
    return factor


def paint(values: ArrayLike) -> Colour:
    """Return three values as a (3, 1, 1) colour."""
    return np.asarray(values, dtype=np.float32).reshape(3, 1, 1)


def colour(
    rng: Rng, value: tuple[float, float], saturation: tuple[float, float] = (0.0, 0.5)
) -> Colour:
    """Return a random (3, 1, 1) colour with brightness and saturation in the given ranges."""
    hue = rng.random() + np.array([0.0, 1 / 3, 2 / 3])
    pure = np.clip(np.abs((hue % 1.0) * 6 - 3) - 1, 0, 1)
    mixed = 1 - rng.uniform(*saturation) * (1 - pure)
    return paint(rng.uniform(*value) * mixed)


def whole(shape: Shape) -> Field:
    """Return the coverage of a product that fills the picture."""
    return np.ones(shape, dtype=np.float32)


def plain(shape: Shape, value: Colour) -> Colours:
    """Return a picture of one colour."""
    return np.broadcast_to(value, (3, *shape)).copy()


Draw = Callable[[Rng, Rng, Shape], Part]
"""(stream of the product, stream of the part, shape) -> part.

The product's stream starts anew for each part, so what is drawn from it is the
design, common to all parts; what is drawn from the part's stream varies.
"""


def halve(picture: Colours) -> Colours:
    """Return the means of blocks of 2 x 2 pixels."""
    rows = picture[:, ::2] + picture[:, 1::2]
    half: Colours = np.float32(0.25) * (rows[..., ::2] + rows[..., 1::2])
    return half
