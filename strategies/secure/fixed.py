"""Real numbers as integers that can be added under a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayfed.errors import FederationError
from strategies.secure.ring import Ring, Vector

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Bounded:
    r"""Numbers in [-C, C] on a grid.

    .. math::
        q = \lfloor (v + C) / h + u \rfloor, \quad h = 2 C / (2^B - 1), \quad u \sim U[0, 1)

    v is a number, h the step of the grid; q is in :math:`0 \ldots 2^B - 1`. The rounding is
    unbiased and off by less than h, so that the sum of m numbers is off by less than m h.

    Attributes:
        clip: C.
        bits: B, at most 32.

    >>> grid = Bounded(clip=1.0, bits=2)
    >>> grid.encode(np.array([-1.0, 1 / 3, 1.0]), np.random.default_rng(0))[:, 0].tolist()
    [0, 2, 3]
    """

    clip: float
    bits: int

    @property
    def top(self) -> int:
        """Return the largest integer."""
        return (1 << self.bits) - 1

    @property
    def step(self) -> float:
        """Return h."""
        return 2 * self.clip / self.top

    def ring(self, summands: int) -> Ring:
        """Return the smallest ring with room for a sum."""
        return Ring(-(-(self.bits + (summands - 1).bit_length()) // 8))

    def encode(self, values: Reals, random: np.random.Generator) -> Vector:
        """Return the ``(d, 1)`` integers of ``(d,)`` numbers, those outside [-C, C] at its ends."""
        places = (np.clip(values, -self.clip, self.clip) + self.clip) / self.step
        found = np.floor(places + random.random(places.shape))
        # Rounding in float64 may put u = 1 - 2^-53 one step too high.
        return np.clip(found, 0, self.top).astype(np.uint64)[:, None]

    def decode(self, total: Vector, summands: int) -> Reals:
        """Return the ``(d,)`` sums of so many encoded vectors."""
        return total[:, 0].astype(np.float64) * self.step - summands * self.clip


@dataclass(frozen=True)
class Wide:
    """Numbers of a wide range: fixed point of 128 bits, 64 of them behind the point.

    A number of at least 2^-11 in size keeps all bits of its float64, a smaller one is off by
    2^-65 at most; integers are exact. A number costs 16 bytes.

    >>> wide = Wide()
    >>> total = wide.ring.add(wide.encode([0.1, 2**40]), wide.encode([-0.3, 1]))
    >>> wide.decode(total)
    [-0.19999999999999998, 1099511627777]
    """

    ring = Ring(16)
    point = 64
    limit = 2**48
    """Largest size of a summand, which leaves room for 2^15 of them."""

    def encode(self, values: Sequence[float | int]) -> Vector:
        """Return the ``(d, 2)`` integers of ``d`` numbers.

        Raises:
            FederationError: a number is not finite, or too large.
        """
        for value in values:
            if not -self.limit <= value <= self.limit:
                raise FederationError(f"{value:g} is no number that a secure sum has room for")
        words = (self._integer(value).to_bytes(16, "little", signed=True) for value in values)
        return self.ring.read(np.frombuffer(b"".join(words), np.uint8))

    def decode(self, total: Vector) -> list[float | int]:
        """Return the ``d`` sums: whole ones as integers."""
        data = self.ring.write(total).tobytes()
        words = (data[i : i + 16] for i in range(0, len(data), 16))
        return [self._number(int.from_bytes(word, "little", signed=True)) for word in words]

    def _integer(self, value: float | int) -> int:
        return value << self.point if isinstance(value, int) else round(value * 2.0**self.point)

    def _number(self, integer: int) -> float | int:
        whole, rest = divmod(integer, 1 << self.point)
        return integer / (1 << self.point) if rest else whole
