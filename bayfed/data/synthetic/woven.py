"""Textiles: fabric, knit, carpet and mesh."""

from __future__ import annotations

import numpy as np

from bayfed.data.synthetic.canvas import (
    Field,
    Part,
    Rng,
    Shape,
    colour,
    grid,
    mix,
    noise,
    plain,
    ramp,
    turned,
    whole,
)


def _laid(
    product: Rng, part: Rng, shape: Shape, threads: float, wobble: float = 0.15
) -> tuple[Field, Field]:
    """Return the coordinates of a cloth laid a little differently each time, in threads."""
    x, y = grid(shape)
    tilt = product.uniform(-0.5, 0.5) + part.normal(0, 0.03)
    u, v = turned(x, y, tilt)
    dx, dy = part.uniform(0, 8, 2)
    u = u * np.float32(threads / 2) + noise(part, shape, 2) * np.float32(wobble)
    v = v * np.float32(threads / 2) + noise(part, shape, 2) * np.float32(wobble)
    return u + np.float32(dx), v + np.float32(dy)


def fabric(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw a plain or twill weave of two yarns."""
    threads, period = product.uniform(14, 20), int(product.integers(2, 5))
    warp, weft = colour(product, (0.35, 0.9)), colour(product, (0.25, 0.7))
    u, v = _laid(product, part, shape, threads)
    i, j = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    over = ((i + j) % period < (period + 1) // 2).astype(np.float32)
    round_u = 1 - (2 * (u - i) - 1) ** 2
    round_v = 1 - (2 * (v - j) - 1) ** 2
    thick = part.normal(1, 0.05, (2, 64)).astype(np.float32)
    light_u = (0.55 + 0.45 * round_u) * thick[0, i % 64]
    light_v = (0.55 + 0.45 * round_v) * thick[1, j % 64]
    rgb = mix(light_v * weft, light_u * warp, over)
    rgb *= 1 + 0.05 * noise(part, shape, 30)
    return Part(rgb, whole(shape))


def knit(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw columns of V-shaped stitches."""
    wool = colour(product, (0.5, 0.9), (0.2, 0.8))
    u, v = _laid(product, part, shape, product.uniform(7, 10), 0.08)
    slant = product.uniform(0.7, 1.1)
    i = np.floor(u)
    side = np.abs(u - i - 0.5)
    stitch = v * np.float32(product.uniform(1.2, 1.6)) + side * np.float32(2 * slant)
    across = 1 - (4 * np.abs(side - 0.25)) ** 2
    along = 0.5 + 0.5 * np.cos(np.float32(2 * np.pi) * stitch)
    light = 0.3 + 0.45 * across * (0.4 + 0.6 * along) + 0.25 * along
    fuzz = 1 + 0.09 * noise(part, shape, 40) + 0.05 * noise(part, shape, 4)
    return Part((light * fuzz) * wool, whole(shape))


def carpet(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw loops of two or three mingled yarns in loose rows."""
    yarns = [colour(product, (0.3, 0.8), (0.1, 0.6)) for _ in range(3)]
    cells, share = product.uniform(18, 26), product.uniform(-0.4, 0.5)
    _, v = _laid(product, part, shape, product.uniform(8, 12), 0.3)
    rgb = plain(shape, yarns[0])
    for yarn, level in zip(yarns[1:], (share, share + 0.7), strict=True):
        rgb = mix(rgb, yarn, ramp(level - 0.15, level + 0.15, noise(part, shape, cells)))
    rows = 0.86 + 0.14 * np.cos(np.float32(2 * np.pi) * v)
    pile = 1 + 0.16 * noise(part, shape, 2 * cells)
    return Part(rgb * (rows * pile), whole(shape))


def mesh(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw a wire screen over a dark ground."""
    wire, ground = colour(product, (0.6, 0.95), (0.0, 0.2)), colour(product, (0.08, 0.25))
    u, v = _laid(product, part, shape, product.uniform(7, 11), 0.06)
    half = product.uniform(0.16, 0.24)
    rgb = plain(shape, ground) * (1 + 0.08 * noise(part, shape, 10))
    for along, across in ((u, v), (v, u)):
        off = np.abs(along - np.floor(along) - 0.5) / np.float32(half)
        bump = 0.75 + 0.25 * np.cos(np.float32(np.pi) * (across + np.floor(along)))
        light = np.sqrt(np.clip(1 - off**2, 0, 1)) * bump * (1 + 0.06 * noise(part, shape, 16))
        rgb = mix(rgb, light * wire, ramp(1.05, 0.85, off))
    return Part(rgb, whole(shape))
