"""A defect of a kind on a part, with its exact mask."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from bayfed.data.site import Mask
from bayfed.data.synthetic import defects, moved
from bayfed.data.synthetic.canvas import Colours, Part, Rng
from bayfed.errors import ConfigError

KINDS: dict[str, defects.Painter] = {
    "bent": moved.bent,
    "contamination": defects.contamination,
    "crack": defects.crack,
    "cut": moved.cut,
    "dent": defects.dent,
    "discoloration": defects.discoloration,
    "hole": defects.hole,
    "missing_part": moved.missing_part,
    "scratch": defects.scratch,
    "smear": moved.smear,
    "stain": defects.stain,
    "swapped": moved.swapped,
}
PASTED_KINDS: dict[str, defects.Painter] = {**KINDS, "cutpaste": moved.cutpaste}
"""Kinds for photographs: those of the synthetic factories and one more."""

SEVERITY = (0.0, 1.0)
"""Range of the severity: 0 can just be seen at 64 pixels, 1 cannot be missed."""
VISIBLE = 0.025
"""Smallest change of a colour, in fractions of the range, that belongs to the mask."""
SMALLEST = 0.0015
"""Smallest area of a mask, in fractions of the picture; below it the draw is repeated."""
ATTEMPTS = 12

Reduce = Callable[[Colours], Colours]


def check_kinds(kinds: Collection[str], key: str, known: Collection[str]) -> tuple[str, ...]:
    """Return ``kinds`` sorted, or all of ``known`` when empty.

    Raises:
        ConfigError: a kind is unknown; the message names the setting ``key``.

    >>> check_kinds(("hole", "dent"), "data.synthetic.kinds", KINDS)
    ('dent', 'hole')
    """
    for kind in kinds:
        if kind not in known:
            raise ConfigError(
                f"{key}: unknown kind {kind!r} (there are: {', '.join(sorted(known))})"
            )
    return tuple(sorted(set(kinds) or known))


def changed(before: Colours, after: Colours) -> Mask:
    r"""Return where two pictures differ visibly, small gaps closed.

    .. math:: M = \mathrm{close}(\max_c |a_c - b_c| > \tau)

    a, b are the (3, H, W) pictures and tau is :data:`VISIBLE`. Gaps up to 1/32 of
    the shorter side are closed: the mask is the region that a person would outline.
    """
    from scipy.ndimage import maximum_filter, minimum_filter  # late, as in the camera

    mask = np.abs(np.clip(after, 0, 1) - np.clip(before, 0, 1)).max(axis=0) > VISIBLE
    reach = max(1, round(min(mask.shape) / 64))
    grown = maximum_filter(np.pad(mask, reach), 2 * reach + 1)
    closed = minimum_filter(grown, 2 * reach + 1)[reach:-reach, reach:-reach]
    return np.asarray(closed, dtype=np.bool_)


def damaged(part: Part, rng: Rng, painter: defects.Painter, reduce: Reduce) -> tuple[Colours, Mask]:
    """Return the damaged picture at image resolution, and where it differs from the intact one.

    A draw that misses (a bent line on a plain surface) is repeated with rising
    severity; if none is large enough the largest is kept.
    """
    intact = reduce(part.rgb)
    best, area = (intact, np.zeros(intact.shape[1:], dtype=np.bool_)), -1.0
    for attempt in range(ATTEMPTS):
        severity = rng.uniform(*SEVERITY)
        severity += (SEVERITY[1] - severity) * attempt / (ATTEMPTS - 1)
        picture = reduce(painter(part, rng, severity))
        mask = changed(intact, picture)
        if mask.mean() > area:
            best, area = (picture, mask), float(mask.mean())
        if area >= SMALLEST:
            break
    return best
