"""Vectors in few bytes: uniform grids of few bits, and the gaps between indices."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BLOCK = 256
"""Coordinates that share a scale."""
_ESCAPE = 255

Vector = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def quantise(
    values: Vector, parts: Sequence[int], bits: int, random: np.random.Generator
) -> tuple[Bytes, Vector]:
    r"""Return the codes of ``values`` on uniform grids, and the scale of each.

    .. math:: q_i = \lfloor L v_i / s + u_i \rfloor, \quad \hat v_i = s q_i / L, \quad
              L = 2^{b-1} - 1, \quad s = \max_{j \in \mathrm{block}} |v_j|

    A block is up to 256 consecutive values of one part. With :math:`u_i` uniform on [0, 1) the mean
    of :math:`\hat v_i` is :math:`v_i`, and no error is larger than s / L. One bit is the sign, with
    s the mean of :math:`|v_j|`, which is biased.

    Source: Alistarh et al., QSGD, 2017, section 3.1; one bit: Karimireddy et al., Error Feedback
    Fixes SignSGD, 2019, Algorithm 1.

    Args:
        values: (d,) finite.
        parts: Lengths of consecutive parts of ``values``, which share no scale.
        bits: b, one of 1, 2, 4, 8, 16.
        random: Source of u.

    Returns:
        (ceil(d b / 8),) codes and a scale for each block.

    >>> codes, scales = quantise(np.float32([1, -1, 0]), [3], 8, np.random.default_rng(0))
    >>> codes.tolist(), scales.tolist()
    ([254, 0, 127], [1.0])
    """
    starts = _starts(parts)
    if bits == 1:
        lengths = np.diff(starts, append=values.size)
        means = np.add.reduceat(np.abs(values), starts) / lengths
        return np.packbits(values > 0, bitorder="little"), means.astype(np.float32)
    levels = 2 ** (bits - 1) - 1
    scales = np.maximum.reduceat(np.abs(values), starts)
    spread = _spread(scales, starts, values.size)
    share = np.divide(values, spread, out=np.zeros(values.size), where=spread > 0, dtype=float)
    codes = np.floor(share * levels + random.random(values.size)).clip(-levels, levels) + levels
    return _packed(codes.astype(np.uint16), bits), scales


def restore(codes: Bytes, scales: Vector, parts: Sequence[int], bits: int) -> Vector:
    """Return the values behind the result of :func:`quantise`.

    Raises:
        ValueError: the lengths do not fit, a scale is not finite, or a code is off the grid.
    """
    size, starts = sum(parts), _starts(parts)
    if codes.shape != (-(-size * bits // 8),) or scales.shape != starts.shape:
        raise ValueError(f"{codes.size} bytes and {scales.size} scales for {size} values")
    if not np.isfinite(scales).all() or (scales < 0).any():
        raise ValueError("a scale is negative or not finite")
    spread = _spread(scales, starts, size)
    if bits == 1:
        return np.where(np.unpackbits(codes, bitorder="little")[:size] > 0, spread, -spread).astype(
            np.float32
        )
    levels = 2 ** (bits - 1) - 1
    found = _unpacked(codes, size, bits).astype(np.int32) - levels
    if (found > levels).any():
        raise ValueError("a code is off the grid")
    values: Vector = (spread * (found / levels)).astype(np.float32)
    return values


def gaps(indices: NDArray[np.int64]) -> Bytes:
    """Return the distances between rising indices, a byte each, 255 standing for 255 and more.

    >>> gaps(np.array([0, 1, 258])).tolist()
    [0, 0, 255, 1]
    """
    between = np.diff(indices, prepend=-1) - 1
    ends = np.cumsum(between // _ESCAPE + 1) - 1
    coded = np.full(int(ends[-1]) + 1 if ends.size else 0, _ESCAPE, dtype=np.uint8)
    coded[ends] = between % _ESCAPE
    return coded


def indices(coded: Bytes, count: int, size: int) -> NDArray[np.int64]:
    """Return the ``count`` indices below ``size`` behind the result of :func:`gaps`.

    Raises:
        ValueError: there are more or fewer, or one lies outside.

    >>> indices(np.uint8([0, 0, 255, 1]), 3, 300).tolist()
    [0, 1, 258]
    """
    ends = np.flatnonzero(coded < _ESCAPE)
    if ends.size != count or (coded.size and coded[-1] == _ESCAPE):
        raise ValueError(f"{ends.size} indices, {count} are expected")
    found = np.cumsum(coded, dtype=np.int64)[ends] + np.arange(count)
    if count and found[-1] >= size:
        raise ValueError(f"index {found[-1]} of {size}")
    return found


def _starts(parts: Sequence[int]) -> NDArray[np.int64]:
    """Return where the blocks begin."""
    ends = np.cumsum([0, *parts])
    begun = [np.arange(first, last, BLOCK) for first, last in itertools.pairwise(ends)]
    return np.concatenate([np.zeros(0, dtype=np.int64), *begun])


def _spread(scales: Vector, starts: NDArray[np.int64], size: int) -> Vector:
    return np.repeat(scales, np.diff(starts, append=size))


def _packed(codes: NDArray[np.uint16], bits: int) -> Bytes:
    if bits == 16:
        return codes.astype("<u2").view(np.uint8)
    return np.packbits((codes[:, None] >> np.arange(bits)) & 1, bitorder="little")


def _unpacked(codes: Bytes, size: int, bits: int) -> NDArray[np.uint16]:
    if bits == 16:
        return codes.view("<u2").astype(np.uint16)
    found = np.unpackbits(codes, bitorder="little")[: size * bits].reshape(size, bits)
    powers = np.uint16(1) << np.arange(bits, dtype=np.uint16)
    values: NDArray[np.uint16] = (found * powers).sum(axis=1, dtype=np.uint16)
    return values
