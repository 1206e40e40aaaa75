"""Sheet and slab goods: brushed metal, leather, wood, tile, perforated sheet, granite."""

from __future__ import annotations

import numpy as np

from bayfed.data.synthetic.canvas import (
    Part,
    Rng,
    Shape,
    colour,
    grid,
    lit,
    mix,
    noise,
    paint,
    plain,
    ramp,
    turned,
    whole,
)


def metal(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw brushed sheet metal with a broad reflection."""
    tint = colour(product, (0.5, 0.75), (0.0, 0.15))
    depth, fine = product.uniform(0.05, 0.09), product.uniform(30, 50)
    sheen = product.uniform(0.08, 0.2)
    long = noise(part, shape, product.uniform(0.5, 2), fine)
    short = noise(part, shape, 5, 1.6 * fine)
    _, y = grid(shape)
    band = np.exp(-4 * (y - np.float32(part.normal(0, 0.5))) ** 2)
    light = 1 + np.float32(depth) * (long + 0.6 * short) + np.float32(sheen) * band
    return Part(light * tint, whole(shape))


def leather(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw pebbled hide with creases between the pebbles."""
    tan = product.uniform(0.35, 0.7)
    hide = paint((tan, tan * product.uniform(0.55, 0.75), tan * product.uniform(0.3, 0.55)))
    cells = product.uniform(9, 13)
    grain = np.minimum(np.abs(noise(part, shape, cells)), np.abs(noise(part, shape, cells)))
    height = ramp(0.0, 0.45, grain) + 0.15 * noise(part, shape, 3 * cells)
    light = lit(height, product.uniform(0.015, 0.025)) * (0.72 + 0.28 * ramp(0.0, 0.25, grain))
    tone = 1 + 0.05 * noise(part, shape, 1.5)
    return Part((light * tone) * hide, whole(shape))


def wood(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw a board with growth rings and fibres."""
    yellow, brown = product.uniform(0.65, 0.85), product.uniform(0.3, 0.5)
    early = paint((yellow, yellow * product.uniform(0.7, 0.82), yellow * 0.5))
    late = paint((brown, brown * 0.65, brown * product.uniform(0.3, 0.5)))
    x, y = grid(shape)
    rings, bend = product.uniform(3, 6), product.uniform(0.5, 1.0)
    centre = part.uniform(-1, 1)
    field = np.float32(rings) * (x + np.float32(0.15 * bend) * (y - np.float32(centre)) ** 2)
    field = field + np.float32(bend * 0.6) * noise(part, shape, 2, 0.7) + np.float32(part.random())
    ring = ramp(0.15, 0.95, field % 1.0) * (0.85 + 0.15 * noise(part, shape, 1))
    fibre = 1 + 0.05 * noise(part, shape, 45, 3) + 0.03 * noise(part, shape, 60, 12)
    return Part(mix(plain(shape, early), late, 0.8 * ring) * fibre, whole(shape))


def tile(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw glazed tiles with grout."""
    glaze, grout = colour(product, (0.5, 0.9), (0.1, 0.5)), colour(product, (0.3, 0.6), (0.0, 0.1))
    count, gap = product.uniform(2.6, 4.2), product.uniform(0.05, 0.08)
    offset = float(product.choice([0.0, 0.5]))
    x, y = grid(shape)
    u, v = turned(x, y, part.normal(0, 0.02))
    v = v * np.float32(count / 2) + np.float32(part.uniform(0, 4))
    row = np.floor(v)
    u = u * np.float32(count / 2) + np.float32(offset) * (row % 2) + np.float32(part.uniform(0, 4))
    edge = 0.5 - np.maximum(np.abs(u % 1.0 - 0.5), np.abs(v % 1.0 - 0.5))
    edge = edge + np.float32(0.006) * noise(part, shape, 14)
    cover = ramp(gap * 0.7, gap * 1.3, edge)
    tones = part.normal(1, 0.045, (16, 16)).astype(np.float32)
    tone = tones[row.astype(np.int32) % 16, np.floor(u).astype(np.int32) % 16]
    speckle = 1 + 0.04 * noise(part, shape, 24) + 0.04 * noise(part, shape, 3)
    bevel = lit(ramp(0.0, 2.5 * gap, edge), 0.02)
    face = (tone * speckle * bevel) * glaze
    return Part(
        mix(plain(shape, grout) * (1 + 0.08 * noise(part, shape, 40)), face, cover),
        whole(shape),
    )


def perforated(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw sheet metal with a lattice of punched holes."""
    sheet, ground = colour(product, (0.55, 0.85), (0.0, 0.25)), colour(product, (0.05, 0.15))
    count, radius = product.uniform(5, 8), product.uniform(0.24, 0.34)
    stagger = float(product.choice([0.0, 0.5]))
    x, y = grid(shape)
    u, v = turned(x, y, product.uniform(-0.3, 0.3) + part.normal(0, 0.02))
    v = v * np.float32(count / 2) + np.float32(part.uniform(0, 4))
    u = u * np.float32(count / 2) + np.float32(stagger) * (np.floor(v) % 2)
    u = u + np.float32(part.uniform(0, 4))
    off = np.hypot(u % 1.0 - 0.5, v % 1.0 - 0.5)
    face = lit(ramp(radius * 0.8, radius * 1.3, off), 0.02)
    face = face * (1 + 0.04 * noise(part, shape, 3, 40) + 0.06 * noise(part, shape, 1.5))
    rgb = mix(face * sheet, ground, ramp(radius * 1.06, radius * 0.94, off))
    return Part(rgb, whole(shape))


def granite(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw polished stone with three minerals."""
    minerals = [
        colour(product, value, (0.0, 0.3)) for value in ((0.6, 0.9), (0.1, 0.3), (0.4, 0.6))
    ]
    cells = product.uniform(12, 18)
    rgb = plain(shape, minerals[0]) * (1 + 0.06 * noise(part, shape, 8))
    for mineral, level, scale in zip(minerals[1:], (0.9, 0.6), (1.4, 0.8), strict=True):
        grains = noise(part, shape, cells * scale)
        rgb = mix(rgb, mineral, ramp(level - 0.1, level + 0.1, grains))
    return Part(rgb * (1 + 0.03 * noise(part, shape, 50)), whole(shape))
