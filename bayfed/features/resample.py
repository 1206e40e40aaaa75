r"""Antialiased bilinear interpolation of 8-bit pictures in whole numbers, as torch rounds it.

An exported detector must see the very bytes that a fitted one sees. ``F.interpolate`` on bytes
weighs the columns of a picture by 16-bit whole numbers, rounds to bytes, and then does the same to
the rows. Here both are products with matrices whose entries are made of the picture's shape, so
that one traced graph serves pictures of every size. No number is rounded that a float32 could not
hold, and sums come out the same in any order and on any runtime.

Output :math:`i` of :math:`n` weighs input :math:`j` of :math:`m`, with :math:`s = \max(m, n)`, by

.. math:: w_{ij} \propto \max\bigl(0,\; 2 s - \lvert (2 j + 1) n - (2 i + 1) m \rvert\bigr)

that is, by a triangle around the output's middle; rows sum to 1 and are rounded to multiples of
:math:`2^{-p}`, :math:`p` being the largest for which every entry fits into 15 bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bayfed.features.preprocess import Shape

BLOCK = 8
"""Outputs that share one cut of the input: few enough that most of their products are not by 0."""
DIGITS, BITS = 6, 4
"""Of a weight before it is rounded, and bits of a digit: its division is exact in float32."""
FINEST = 22
"""Largest exponent p that torch looks at."""
LOW = 8
"""Bits of the lower part of a weight, so that sums of products with bytes stay below 2 ** 24."""
LIMIT = 1 << 15


Span = tuple[int, int]
"""Where a part of a side begins and ends."""


def resampled(image: Tensor, shape: Shape, rows: Sequence[Span], columns: Sequence[Span]) -> Tensor:
    """Bring parts of a picture to ``shape``, bit for bit as ``F.interpolate`` with ``antialias``.

    Args:
        image: ``(H, W, c)`` uint8.
        shape: Height and width of each result.
        rows: Parts of the height, all of one length.
        columns: Parts of the width, all of one length.

    Returns:
        ``(len(rows) * len(columns), *shape, c)`` float32 whole numbers from 0 to 255, row by row.

    >>> nine = torch.full((5, 7, 1), 9, dtype=torch.uint8)
    >>> resampled(nine, (2, 2), [(0, 5)], [(0, 7)]).flatten().tolist()
    [9.0, 9.0, 9.0, 9.0]
    """
    height, width = shape
    wide = _narrower(image, width, columns)
    whole = _lower(wide, height, rows)
    parts = whole.reshape(len(rows), height, len(columns), width, image.shape[2])
    return parts.transpose(1, 2).flatten(0, 1)


def _narrower(image: Tensor, outputs: int, spans: Sequence[Span]) -> Tensor:
    """Bring spans of the columns of ``(H, W, c)`` to ``outputs`` each, side by side.

    The picture is multiplied from the right, as its bytes lie, by matrices that leave channels
    apart: it is never turned, which would take longer than the product.

    Returns:
        ``(H, len(spans) * outputs, c)`` float32 bytes.
    """
    height, channels = image.shape[0], image.shape[2]
    places, weights, unit = _weights(spans[0][1] - spans[0][0], outputs)
    blocks, taps = places.shape
    apart = torch.eye(channels)[:, None, :]
    parts = _parts(weights).transpose(1, 2)
    both = (parts[:, :, None, :, None] * apart).reshape(
        blocks, taps * channels, parts.shape[2] * channels
    )
    found = []
    for start, _ in spans:
        cut = image.index_select(1, (places + start).flatten())
        cut = cut.reshape(height, blocks, taps * channels).transpose(0, 1).float()
        narrow = _rounded((cut @ both).chunk(2, dim=2), unit)
        found.append(narrow.transpose(0, 1).reshape(height, outputs, channels))
    return torch.cat(found, 1)


def _lower(image: Tensor, outputs: int, spans: Sequence[Span]) -> Tensor:
    """Bring spans of the rows of ``(H, w, c)`` to ``outputs`` each, one below the other.

    Returns:
        ``(len(spans) * outputs, w, c)`` float32 bytes.
    """
    width, channels = image.shape[1:]
    places, weights, unit = _weights(spans[0][1] - spans[0][0], outputs)
    both, found = _parts(weights), []
    for start, _ in spans:
        cut = image.index_select(0, (places + start).flatten())
        sums = both @ cut.reshape(*places.shape, width * channels)
        found.append(_rounded(sums.chunk(2, dim=1), unit).reshape(outputs, width, channels))
    return torch.cat(found)


def _parts(weights: Tensor) -> Tensor:
    """Return the upper bits of ``(blocks, block, taps)`` weights, and below them the lower ones."""
    high = (weights / 2**LOW).floor()
    return torch.cat([high, weights - high * 2**LOW], 1)


def _rounded(sums: Sequence[Tensor], unit: Tensor) -> Tensor:
    """Return bytes from the sums by the upper and by the lower bits of weights."""
    high, low = sums
    part = unit / 2**LOW
    found: Tensor = ((high + (low / 2**LOW).floor() + part / 2) / part).floor().clamp(0, 255)
    return found


def _weights(length: int, outputs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the places that blocks of outputs look at, their weights and the unit of these.

    Returns:
        Places ``(blocks, taps)`` of the input; whole weights ``(blocks, block, taps)``; the weight
        that means 1, :math:`2^p`.
    """
    block = next(size for size in range(BLOCK, 0, -1) if outputs % size == 0)
    taps = ((block + 1) * length) // outputs + 6
    middle = (2 * torch.arange(outputs) + 1) * length  # of an output, in units of 1 / (2 outputs)
    widest = torch.scalar_tensor(outputs, dtype=torch.int64).clamp(min=length)
    first = (middle[::block] - 2 * widest).clamp(min=0) // (2 * outputs)
    places = first[:, None] + torch.arange(taps)
    apart = ((2 * places + 1) * outputs)[:, None, :] - middle.reshape(-1, block, 1)
    inside = (places < length)[:, None, :]
    triangle = ((2 * widest - apart.abs()).clamp(min=0) * inside).float()
    digits = _divided(triangle, triangle.sum(-1, keepdim=True))
    finer = 2.0 ** (DIGITS * BITS - torch.arange(FINEST + 1))  # of digits, in units of a weight
    fits = _halves(digits.max(), finer[1:]) < LIMIT
    exponent = fits.sum()
    weights = _halves(digits, finer[exponent])
    return places.clamp(max=length - 1), weights, 2.0 ** (DIGITS * BITS) / finer[exponent]


def _halves(digits: Tensor, unit: Tensor) -> Tensor:
    """Return the whole number nearest to ``digits / unit``, the upper one of two."""
    return (((2 * digits / unit).floor() + 1) / 2).floor()


def _divided(part: Tensor, whole: Tensor) -> Tensor:
    """Return the whole part of ``part / whole * 2 ** (DIGITS * BITS)``, digit by digit."""
    found, rest = torch.zeros_like(part), part
    for _ in range(DIGITS):
        rest = rest * 2**BITS
        digit = (rest / whole).floor()
        found, rest = found * 2**BITS + digit, rest - digit * whole
    return found
