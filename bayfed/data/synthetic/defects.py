"""Painters of defects: they work on any part, drawn or photographed.

A painter takes (part, stream, severity in [0, 1]) and returns the changed
colours. It aims at the foreground and sets its contrast by the part's own, so
that the same severity is about as visible on cloth as on steel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bayfed.data.synthetic.canvas import (
    Colours,
    Field,
    Part,
    Rng,
    bell,
    colour,
    grid,
    inside,
    lit,
    mix,
    noise,
    paint,
    ramp,
    turned,
)

Painter = Callable[[Part, Rng, float], Colours]


def between(low: float, high: float, severity: float) -> float:
    """Return the value at ``severity`` between ``low`` and ``high``."""
    return low + (high - low) * severity


def amount(part: Part, low: float, high: float, severity: float) -> float:
    """Return a contrast in [low, high] scaled by the part's own (0.75 to 2 times)."""
    spread = float(part.rgb[:, ::4, ::4].mean(axis=0).std())
    return between(low, high, severity) * min(2.0, 0.75 + 3 * spread)


def aim(part: Part, rng: Rng) -> tuple[Field, Field]:
    """Return coordinates around a random point of the foreground, randomly turned."""
    spots = np.flatnonzero(part.fore > 0.9)
    x, y = grid(part.fore.shape)
    spot = int(spots[rng.integers(spots.size)]) if spots.size else int(rng.integers(x.size))
    angle = rng.uniform(0, 2 * np.pi)
    return turned(x - x.flat[spot], y - y.flat[spot], angle)


def blob(part: Part, rng: Rng, radius: float, rough: float = 0.25) -> Field:
    """Return the signed distance to an irregular, somewhat elongated patch."""
    u, v = aim(part, rng)
    r = np.hypot(u * np.float32(rng.uniform(0.8, 1.2)), v * np.float32(rng.uniform(0.8, 1.5)))
    wobble = noise(rng, part.fore.shape, 1.5 / radius) * np.float32(rough * radius)
    distance: Field = r - np.float32(radius) + wobble
    return distance


def scratch(part: Part, rng: Rng, severity: float) -> Colours:
    """Draw a long thin groove with a bright and a dark flank."""
    u, v = aim(part, rng)
    length, width = between(0.35, 0.7, severity), between(0.022, 0.045, severity)
    v = v + np.float32(rng.uniform(-0.4, 0.4)) * u * u
    along = ramp(length, 0.8 * length, np.abs(u)) * part.fore
    sign = float(rng.choice([-1.0, 1.0]))
    groove = bell((v / width) ** 2) - 0.5 * bell(((v - 2 * width) / width) ** 2)
    depth = np.float32(sign * amount(part, 0.35, 0.8, severity))
    return part.rgb * (1 + depth * groove * along)


def crack(part: Part, rng: Rng, severity: float) -> Colours:
    """Draw a dark jagged line with a branch."""
    u, v = aim(part, rng)
    step, width = between(0.09, 0.16, severity), between(0.018, 0.035, severity)
    distance = np.full_like(u, np.inf)
    for first, turns in ((0.0, 6), (rng.choice([-0.9, 0.9]), 3)):
        at, heading = np.zeros(2), first
        for _ in range(turns):
            heading += rng.normal(0, 0.5)
            ahead = step * np.array([np.cos(heading), np.sin(heading)])
            local_u, local_v = turned(u - np.float32(at[0]), v - np.float32(at[1]), heading)
            past = local_u - np.clip(local_u, 0, np.float32(step))
            np.minimum(distance, np.hypot(past, local_v), out=distance)
            at = at + ahead
    depth = min(0.85, amount(part, 0.45, 0.8, severity))
    cover = inside(distance - np.float32(width), 0.025) * part.fore
    return part.rgb * (1 - np.float32(depth) * cover)


def stain(part: Part, rng: Rng, severity: float) -> Colours:
    """Draw a tinted patch with a darker rim, as a dried liquid leaves."""
    distance = blob(part, rng, between(0.18, 0.38, severity), 0.35)
    tint = colour(rng, (0.4, 0.9), (0.2, 0.8))
    rim = bell((distance / 0.03) ** 2)
    cover = (0.75 * ramp(0.03, -0.03, distance) + 0.4 * rim) * part.fore
    strength = np.float32(min(0.9, amount(part, 0.3, 0.65, severity)))
    stained: Colours = part.rgb * (1 - strength * cover * (1 - tint))
    return stained


def hole(part: Part, rng: Rng, severity: float) -> Colours:
    """Draw a pit: a dark floor and a lit edge."""
    distance = blob(part, rng, between(0.06, 0.15, severity), 0.15)
    floor = inside(distance, 0.03) * np.float32(between(0.6, 0.95, severity))
    edge = lit(ramp(-0.04, 0.04, distance), 0.02, rng.uniform(0, 2 * np.pi))
    light = (1 - floor) * (1 + (edge - 1) * np.float32(between(0.4, 1, severity)))
    return mix(part.rgb, part.rgb * light, part.fore)


def contamination(part: Part, rng: Rng, severity: float) -> Colours:
    """Scatter specks and a fibre of one foreign colour."""
    foreign = colour(rng, (0.05, 0.95), (0.0, 0.9))
    cover = np.zeros_like(part.fore)
    opaque = np.float32(between(0.65, 1.0, severity))
    u, v = aim(part, rng)
    for _ in range(int(rng.integers(2, 6))):
        du, dv = rng.normal(0, 0.18, 2).astype(np.float32)
        radius = rng.uniform(0.5, 1.2) * between(0.035, 0.08, severity)
        r, theta = np.hypot(u - du, v - dv), np.arctan2(v - dv, u - du)
        lobes = 1 + 0.3 * np.cos(int(rng.integers(2, 5)) * theta)
        np.maximum(cover, inside(r - np.float32(radius) * lobes), out=cover)
    bend, half = np.float32(rng.uniform(-1.5, 1.5)), between(0.15, 0.35, severity)
    fibre = np.maximum(np.abs(v + bend * u * u) - 0.018, np.abs(u) - np.float32(half))
    np.maximum(cover, inside(fibre), out=cover)
    return mix(part.rgb, foreign, opaque * cover)


def discoloration(part: Part, rng: Rng, severity: float) -> Colours:
    """Shift hue and brightness over a broad patch without a sharp edge."""
    distance = blob(part, rng, between(0.25, 0.5, severity), 0.3)
    shift = rng.normal(0, 1, 3)
    shift = shift / np.abs(shift).max() * amount(part, 0.08, 0.2, severity)
    cover = ramp(0.12, -0.12, distance) * part.fore
    return part.rgb * (1 + cover * paint(shift))


def dent(part: Part, rng: Rng, severity: float) -> Colours:
    """Shade a shallow bowl: one flank lit, the other dark."""
    u, v = aim(part, rng)
    radius = np.float32(between(0.12, 0.25, severity))
    bowl = bell((u * u + np.float32(rng.uniform(0.7, 1.6)) * v * v) / radius**2)
    depth = amount(part, 0.25, 0.6, severity) * float(radius)
    light = lit(bowl, depth, rng.uniform(0, 2 * np.pi))
    return part.rgb * (1 + (light - 1) * part.fore)
