"""Painters of defects that move the part's own pixels, or take them away."""

from __future__ import annotations

import numpy as np

from bayfed.data.synthetic.canvas import (
    Colour,
    Colours,
    Field,
    Part,
    Rng,
    bell,
    inside,
    mix,
    noise,
    paint,
    ramp,
)
from bayfed.data.synthetic.defects import aim, amount, between, blob


def _sampled(rgb: Colours, down: Field, across: Field) -> Colours:
    """Return the picture read at pixel positions displaced by (down, across), bilinear."""
    height, width = rgb.shape[1:]
    rows = np.clip(np.arange(height, dtype=np.float32)[:, None] + down, 0, height - 1.001)
    columns = np.clip(np.arange(width, dtype=np.float32) + across, 0, width - 1.001)
    i, j = rows.astype(np.intp), columns.astype(np.intp)
    p, q = (rows - i), (columns - j)
    upper = rgb[:, i, j] * (1 - q) + rgb[:, i, j + 1] * q
    lower = rgb[:, i + 1, j] * (1 - q) + rgb[:, i + 1, j + 1] * q
    sampled: Colours = upper * (1 - p) + lower * p
    return sampled


def bent(part: Part, rng: Rng, severity: float) -> Colours:
    """Push a neighbourhood sideways, so that lines and outlines bend."""
    u, v = aim(part, rng)
    radius = between(0.25, 0.45, severity)
    push = bell(((u * u + v * v) / np.float32(radius**2)) ** 2)
    push = push * np.float32(between(0.1, 0.22, severity) * min(part.fore.shape) / 2)
    angle = rng.uniform(0, 2 * np.pi)
    return _sampled(part.rgb, push * np.float32(np.sin(angle)), push * np.float32(np.cos(angle)))


def _beyond(part: Part, distance: Field, rng: Rng) -> Colour:
    """Return the colour seen where a piece is gone: the ground, or what lies below a sheet."""
    ground = part.fore < 0.05
    if ground.mean() > 0.02:
        return paint(np.median(part.rgb[:, ground][:, ::7], axis=1))
    near = part.rgb[:, distance < 0.1]
    if not near.size:
        near = part.rgb.reshape(3, -1)
    return paint(near.mean(axis=1) * rng.uniform(0.5, 0.9))


def missing_part(part: Part, rng: Rng, severity: float) -> Colours:
    """Break a piece off: the ground shows."""
    distance = blob(part, rng, between(0.12, 0.28, severity), 0.2)
    texture = 1 + 0.03 * noise(rng, part.fore.shape, 30)
    gone = _beyond(part, distance, rng) * texture
    return mix(part.rgb, gone, inside(distance, 0.03) * part.fore)


def cut(part: Part, rng: Rng, severity: float) -> Colours:
    """Open a frayed slit whose lips curl up."""
    u, v = aim(part, rng)
    half, gap = between(0.16, 0.4, severity), between(0.03, 0.06, severity)
    opening = np.float32(gap) * np.sqrt(np.clip(1 - (u / np.float32(half)) ** 2, 0, 1))
    fray = 1 + 0.3 * noise(rng, part.fore.shape, 24)
    depth = np.float32(min(0.85, amount(part, 0.4, 0.75, severity)))
    slit = ramp(0.02, -0.02, np.abs(v) - opening * fray) * (opening > 0)
    lip = ramp(gap, 0.0, np.abs(np.abs(v) - 1.6 * opening)) * (opening > 0)
    light = (1 - depth * slit) * (1 + 0.35 * depth * lip * (1 - slit))
    return mix(part.rgb, part.rgb * light, part.fore)


def smear(part: Part, rng: Rng, severity: float) -> Colours:
    """Drag the surface or its print along one direction, which also dulls it."""
    distance = blob(part, rng, between(0.25, 0.5, severity), 0.25)
    angle = rng.uniform(0, 2 * np.pi)
    reach = between(0.2, 0.45, severity) * min(part.fore.shape) / 2
    dragged = np.zeros_like(part.rgb)
    taps = np.linspace(0, reach, 7)
    for tap in taps:
        shift = (round(tap * np.sin(angle)), round(tap * np.cos(angle)))
        dragged += np.roll(part.rgb, shift, axis=(1, 2)) / np.float32(taps.size)
    dragged *= np.float32(1 - between(0.08, 0.2, severity))
    return mix(part.rgb, dragged, ramp(0.05, -0.05, distance) * part.fore)


def _window(shape: tuple[int, int], high: int, wide: int, rng: Rng) -> tuple[slice, slice]:
    top = int(rng.integers(shape[0] - high + 1))
    left = int(rng.integers(shape[1] - wide + 1))
    return slice(top, top + high), slice(left, left + wide)


def swapped(part: Part, rng: Rng, severity: float) -> Colours:
    """Replace a round patch by another piece, turned by a quarter and of another batch."""
    side = max(2, round(between(0.22, 0.38, severity) * min(part.fore.shape)))
    piece = np.rot90(_piece(part, side, side, rng), int(rng.choice([1, 3])), axes=(1, 2))
    piece = piece * np.float32(1 + rng.choice([-1, 1]) * between(0.1, 0.22, severity))
    there = _covered_window(part, side, side, rng)
    line = np.linspace(-1, 1, side, dtype=np.float32)
    disc = np.hypot(line[:, None], line)
    changed = part.rgb.copy()
    changed[:, *there] = mix(changed[:, *there], piece, ramp(1.0, 0.9, disc) * part.fore[there])
    return changed


def _piece(part: Part, high: int, wide: int, rng: Rng) -> Colours:
    rows, columns = _window(part.fore.shape, high, wide, rng)
    return part.rgb[:, rows, columns]


def _covered_window(part: Part, high: int, wide: int, rng: Rng) -> tuple[slice, slice]:
    """Return the window with most foreground among a few."""
    tries = [_window(part.fore.shape, high, wide, rng) for _ in range(6)]
    return max(tries, key=lambda window: float(part.fore[window].sum()))


def cutpaste(part: Part, rng: Rng, severity: float) -> Colours:
    """Paste a rectangle of the same image elsewhere.

    Source: Li et al., "CutPaste", CVPR 2021, Section 3.1.
    """
    area = between(0.006, 0.05, severity) * part.fore.size
    ratio = np.exp(rng.uniform(-1.2, 1.2))
    high = int(np.clip(round(np.sqrt(area * ratio)), 2, part.fore.shape[0] // 2))
    wide = int(np.clip(round(np.sqrt(area / ratio)), 2, part.fore.shape[1] // 2))
    piece = _piece(part, high, wide, rng)
    changed = part.rgb.copy()
    there = _covered_window(part, high, wide, rng)
    changed[:, *there] = piece * np.float32(rng.uniform(0.9, 1.1))
    return changed
