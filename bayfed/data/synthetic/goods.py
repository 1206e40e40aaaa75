"""Packed and electric goods: bottle cap, capsule, label, connector, circuit board."""

from __future__ import annotations

import numpy as np

from bayfed.data.synthetic.canvas import (
    Colours,
    Field,
    Part,
    Rng,
    Shape,
    bell,
    box,
    colour,
    inside,
    lit,
    mix,
    noise,
    paint,
    plain,
    ramp,
    turned,
)
from bayfed.data.synthetic.hardware import placed, tray


def _drift(part: Rng, shape: Shape) -> Field:
    return 1 + 0.025 * noise(part, shape, 2) + 0.025 * noise(part, shape, 35)


def cap(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw a bottle cap from above: serrated edge, printed ring and star."""
    rgb = tray(product, part, shape, (0.3, 0.6))
    paint, ink = colour(product, (0.5, 0.85), (0.5, 0.9)), colour(product, (0.1, 0.95), (0.0, 0.6))
    ribs, points = int(product.integers(24, 36)), int(product.integers(3, 7))
    edge, ring = product.uniform(0.72, 0.8), product.uniform(0.42, 0.5)
    u, v = placed(part, shape, part.uniform(-np.pi, np.pi))
    r, theta = np.hypot(u, v), np.arctan2(v, u)
    rib = np.cos(ribs * theta)
    distance = r - np.float32(edge) - 0.025 * rib
    printed = inside(np.abs(r - np.float32(ring)) - 0.035)
    star = inside(r - np.float32(0.17) - 0.1 * np.cos(points * theta))
    face = mix(plain(shape, paint), ink, np.maximum(printed, star))
    wall = ramp(edge - 0.16, edge - 0.1, r)
    light = _drift(part, shape) * (1 + 0.25 * wall * rib) * lit(ramp(0.0, -0.2, distance), 0.05)
    fore = inside(distance)
    return Part(mix(rgb, face * light, fore), fore)


def capsule(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw a two-coloured capsule with a seam and a printed code."""
    rgb = tray(product, part, shape, (0.6, 0.9))
    ends = [colour(product, (0.5, 0.9), (0.3, 0.9)) for _ in range(2)]
    length, radius = product.uniform(0.72, 0.82), product.uniform(0.28, 0.36)
    code = product.random(9) < 0.6
    u, v = placed(part, shape, product.uniform(-0.7, 0.7) + part.normal(0, 0.08))
    distance = box(u, v, length, radius, radius)
    face = mix(plain(shape, ends[0]), ends[1], ramp(-0.01, 0.01, u))
    stroke = code[np.clip(((u + 0.62) * 18).astype(np.int32), 0, 8)] * (np.abs(u + 0.37) < 0.25)
    face = face * (1 - 0.6 * stroke * inside(np.abs(v) - 0.09))
    gloss = bell(60 * (v + np.float32(0.45 * radius)) ** 2) * ramp(length, length - 0.3, abs(u))
    seam = 1 - 0.35 * inside(np.abs(u) - 0.015, 0.02)
    light = _drift(part, shape) * seam * (0.6 + 0.4 * np.cos(1.3 * v / radius))
    fore = inside(distance)
    return Part(mix(rgb, face * light + 0.3 * gloss, fore), fore)


def label(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw a printed label: logo, lines of text and a bar code."""
    rgb = tray(product, part, shape, (0.3, 0.7))
    paper, ink = colour(product, (0.85, 0.98), (0.0, 0.2)), colour(product, (0.1, 0.3), (0.2, 0.9))
    logo = colour(product, (0.4, 0.8), (0.6, 1.0))
    bars, letters = product.random(40) < 0.5, product.random((6, 34)) < 0.7
    shape_of_logo = float(product.uniform(0.1, 0.2))
    u, v = placed(part, shape, part.normal(0, 0.035))
    column = np.clip(((u + 0.7) * 40 / 1.4).astype(np.int32), 0, 39)
    bar = bars[column] * inside(box(u, v - 0.48, 0.68, 0.16))
    row = np.clip(((v + 0.12) * 13).astype(np.int32), 0, 5)
    letter = letters[row, np.clip(((u + 0.68) * 25).astype(np.int32), 0, 33)]
    line = letter * ramp(0.2, 0.35, ((v + 0.12) * 13) % 1.0) * inside(box(u, v - 0.07, 0.66, 0.19))
    face = mix(plain(shape, paper), ink, (0.92 * np.maximum(bar, line)).astype(np.float32))
    face = mix(face, logo, inside(box(u + 0.42, v + 0.43, 0.22, 0.2, shape_of_logo)))
    face = mix(face, ink, inside(box(u - 0.3, v + 0.43, 0.34, 0.07)))
    fore = inside(box(u, v, 0.8, 0.76, 0.06))
    return Part(mix(rgb, face * _drift(part, shape), fore), fore)


def connector(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw a housing with two rows of contacts."""
    rgb = tray(product, part, shape, (0.55, 0.85))
    body = colour(product, (0.12, 0.5), (0.2, 0.8))
    contact = paint((0.95, product.uniform(0.7, 0.9), product.uniform(0.35, 0.8)))
    pins, half_y = int(product.integers(4, 8)), product.uniform(0.42, 0.55)
    u, v = placed(part, shape, product.choice([0.0, 0.35, -0.35]) + part.normal(0, 0.04))
    outline = box(u, v, 0.82, half_y, 0.1)
    outline = np.minimum(outline, box(u, v + np.float32(half_y), 0.22, 0.1, 0.02))
    pitch = 1.44 / pins
    cell_u = (u + 0.72) % pitch - pitch / 2
    cell_v = np.abs(v) - np.float32(half_y * 0.45)
    among = np.abs(u) < 0.72
    socket = inside(box(cell_u, cell_v, 0.38 * pitch, 0.13, 0.02)) * among
    lengths = part.normal(0, 0.008, (2, pins)).astype(np.float32)
    which = np.clip(((u + 0.72) / pitch).astype(np.int32), 0, pins - 1)
    long = cell_v + lengths[(v > 0).astype(np.int32), which]
    pin = inside(box(cell_u, long, 0.19 * pitch, 0.085, 0.02)) * among
    light = _drift(part, shape) * lit(ramp(0.0, -0.1, outline), 0.05)
    face = mix(mix(plain(shape, body) * light, 0.25 * body, socket), contact, pin)
    fore = inside(outline)
    return Part(mix(rgb, face, fore), fore)


def board(product: Rng, part: Rng, shape: Shape) -> Part:
    """Draw a circuit board: traces, chips, pads and a drilled hole in each corner."""
    rgb = tray(product, part, shape, (0.2, 0.6))
    base = paint((0.05, 0.35, 0.15)) + colour(product, (0.05, 0.2), (0.0, 1.0))
    copper = paint((0.85, 0.75, 0.5)) * np.float32(product.uniform(0.8, 1.1))
    u, v = placed(part, shape, part.normal(0, 0.02), 0.025)
    trace = turned(u, v, float(product.choice([0.0, np.pi / 2])))
    lanes = np.abs((trace[0] * 8 + np.round(trace[1] * 1.5) * 0.5) % 1.0 - 0.5)
    light = _drift(part, shape) * (1 + 0.5 * ramp(0.16, 0.1, lanes))
    face: Colours = plain(shape, base) * light
    for left, top in ((-0.4, -0.38), (0.4, -0.38), (-0.4, 0.38), (0.4, 0.38)):
        wide, high = product.uniform(0.14, 0.24), product.uniform(0.1, 0.2)
        x, y = u - np.float32(left + product.normal(0, 0.04)), v - np.float32(top)
        x, y = x - np.float32(part.normal(0, 0.006)), y - np.float32(part.normal(0, 0.006))
        legs = inside(box((x + 4) % 0.1 - 0.05, np.abs(y) - np.float32(high), 0.026, 0.06))
        face = mix(face, copper, legs * (np.abs(x) < wide))
        chip = colour(product, (0.08, 0.25), (0.0, 0.3)) * np.float32(part.normal(1, 0.05))
        face = mix(face, chip, inside(box(x, y, wide, high, 0.02)))
        dot = inside(np.hypot(x + np.float32(wide * 0.7), y + np.float32(high * 0.6)) - 0.03)
        face = mix(face, 3 * chip, dot)
    pad = np.hypot(np.abs(u) - 0.72, np.abs(v) - 0.7)
    face = mix(mix(face, copper, inside(pad - 0.085)), 0.1 * copper, inside(pad - 0.045))
    fore = inside(box(u, v, 0.86, 0.82, 0.04))
    return Part(mix(rgb, face, fore), fore)
