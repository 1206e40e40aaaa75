"""Metal parts on a tray: bolt, washer, nut, gear."""

from __future__ import annotations

import numpy as np

from bayfed.data.synthetic.canvas import (
    Colours,
    Field,
    Part,
    Rng,
    Shape,
    box,
    colour,
    grid,
    inside,
    lit,
    mix,
    noise,
    plain,
    polygon,
    ramp,
    turned,
)


def tray(product: Rng, part: Rng, shape: Shape, value: tuple[float, float]) -> Colours:
    """Return the ground that a part lies on."""
    ground = plain(shape, colour(product, value, (0.0, 0.4)))
    light = 1 + 0.03 * noise(part, shape, 2) + 0.03 * noise(part, shape, 40)
    return ground * light


def placed(part: Rng, shape: Shape, angle: float, shift: float = 0.04) -> tuple[Field, Field]:
    """Return the part's own coordinates: turned by ``angle``, shifted, slightly scaled."""
    x, y = grid(shape)
    dx, dy = part.normal(0, shift, 2).astype(np.float32)
    u, v = turned(x - dx, y - dy, angle)
    scale = np.float32(1 + part.normal(0, 0.012))
    return u * scale, v * scale


def _steel(product: Rng, part: Rng, shape: Shape) -> Colours:
    tint = colour(product, (0.5, 0.8), (0.0, 0.12))
    finish = 1 + 0.05 * noise(part, shape, 4) + 0.04 * noise(part, shape, 30)
    return plain(shape, tint) * finish


def bolt(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw a hexagon bolt seen from the side."""
    rgb, steel = tray(product, part, shape, (0.12, 0.35)), _steel(product, part, shape)
    head, shank = product.uniform(0.36, 0.46), product.uniform(0.17, 0.23)
    pitch, plain_end = product.uniform(16, 24), product.uniform(-0.25, 0.0)
    u, v = placed(part, shape, product.uniform(-0.6, 0.6) + part.normal(0, 0.06))
    thread = (u > plain_end) * np.cos(np.float32(2 * np.pi * pitch / 2) * (u + 0.25 * v))
    body = box(u - 0.15, v + 0.012 * thread, 0.68, shank, 0.04)
    cap = box(u + 0.58, v, 0.2, head, 0.05)
    distance = np.minimum(body, cap)
    roundness = np.where(cap < 0, 0.75 + 0.25 * np.cos(7 * v / head), np.cos(1.2 * v / shank))
    light = (0.45 + 0.75 * roundness) * (1 + 0.28 * thread * (cap > 0))
    fore = inside(distance)
    return Part(mix(rgb, steel * light, fore), fore)


def washer(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw a washer with a turned face and a locating notch."""
    rgb, steel = tray(product, part, shape, (0.15, 0.4)), _steel(product, part, shape)
    outer, inner = product.uniform(0.68, 0.8), product.uniform(0.28, 0.42)
    rings, notch = product.uniform(25, 45), product.uniform(0.05, 0.08)
    u, v = placed(part, shape, part.uniform(-np.pi, np.pi))
    r = np.hypot(u, v)
    distance = np.maximum(r - np.float32(outer), np.float32(inner) - r)
    distance = np.maximum(distance, -box(u - np.float32(inner), v, 0.12, notch, 0.02))
    fore = inside(distance)
    x, y = grid(shape)
    gloss = 1 + 0.2 * np.cos(2 * np.arctan2(y, x) + np.float32(product.uniform(0, 6)))
    turning = 1 + 0.05 * np.cos(np.float32(2 * rings) * r)
    light = gloss * turning * lit(ramp(0.0, -0.08, distance), 0.03)
    return Part(mix(rgb, steel * light, fore), fore)


def nut(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw a hexagon nut with a chamfer and a threaded hole."""
    rgb, steel = tray(product, part, shape, (0.15, 0.45)), _steel(product, part, shape)
    radius, hole = product.uniform(0.6, 0.72), product.uniform(0.3, 0.4)
    u, v = placed(part, shape, part.uniform(-np.pi, np.pi))
    r = np.hypot(u, v)
    hexagon = polygon(u, v, 6, radius)
    fore = inside(np.maximum(hexagon, np.float32(hole) - r))
    chamfer = ramp(0.02, -0.02, r - np.float32(radius * 1.02))
    turns = np.cos(np.float32(80) * r + np.arctan2(v, u)) * (r < hole + 0.07)
    light = (0.75 + 0.3 * chamfer) * (1 + 0.3 * turns) * lit(ramp(0.0, -0.07, hexagon), 0.03)
    return Part(mix(rgb, steel * light, fore), fore)


def gear(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw a spur gear with a bore, a keyway and lightening holes."""
    rgb, steel = tray(product, part, shape, (0.15, 0.4)), _steel(product, part, shape)
    teeth, holes = int(product.integers(12, 20)), int(product.integers(4, 7))
    root, depth, bore = product.uniform(0.62, 0.7), product.uniform(0.1, 0.15), 0.17
    u, v = placed(part, shape, part.uniform(-np.pi, np.pi))
    r, theta = np.hypot(u, v), np.arctan2(v, u)
    tooth = np.clip(1.6 * np.cos(teeth * theta), -1, 1)
    distance = r - np.float32(root + depth / 2) - np.float32(depth / 2) * tooth
    distance = np.maximum(distance, np.float32(bore) - r)
    distance = np.maximum(distance, -box(u - np.float32(bore), v, 0.06, 0.05))
    sector = (theta * holes / (2 * np.pi)) % 1.0 - 0.5
    arc = sector * np.float32(2 * np.pi / holes) * r
    distance = np.maximum(distance, np.float32(0.085) - np.hypot(r - np.float32(0.42), arc))
    fore = inside(distance)
    light = (0.85 + 0.2 * ramp(0.26, 0.3, r)) * lit(ramp(0.0, -0.06, distance), 0.03)
    return Part(mix(rgb, steel * light, fore), fore)
