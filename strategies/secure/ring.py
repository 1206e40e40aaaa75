"""Vectors of integers modulo a power of two, and their masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from bayfed.errors import FederationError

Vector = NDArray[np.uint64]
"""``(d, limbs)``: limbs of 64 bits, the least first."""
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Ring:
    """The integers modulo :math:`2^{8w}`.

    Attributes:
        width: w, bytes of a number on the wire, 1 to 16.

    >>> ring = Ring(1)
    >>> ring.write(ring.add(ring.read(np.uint8([200])), ring.read(np.uint8([100])))).tolist()
    [44]
    """

    width: int

    @property
    def limbs(self) -> int:
        """Words of 64 bits of a number in memory."""
        return 1 if self.width <= 8 else 2

    def read(self, data: Bytes) -> Vector:
        """Return the ``(d, limbs)`` numbers in ``d w`` bytes, little-endian.

        Raises:
            FederationError: the bytes end within a number.
        """
        if data.ndim != 1 or data.size % self.width:
            raise FederationError(f"{data.size} bytes are no numbers of {self.width}")
        padded = np.zeros((data.size // self.width, 8 * self.limbs), np.uint8)
        padded[:, : self.width] = data.reshape(-1, self.width)
        return padded.view("<u8").astype(np.uint64, copy=False)

    def write(self, vector: Vector) -> Bytes:
        """Return the bytes of ``vector``, reduced modulo :math:`2^{8w}`."""
        words = np.ascontiguousarray(vector.astype("<u8", copy=False))
        return np.ascontiguousarray(words.view(np.uint8)[:, : self.width]).reshape(-1)

    def add(self, left: Vector, right: Vector) -> Vector:
        """Return the sum; what goes beyond a number's bytes is left for :meth:`write`."""
        total: Vector = left + right
        if self.limbs > 1:
            total[:, 1] += total[:, 0] < left[:, 0]
        return total

    def subtract(self, left: Vector, right: Vector) -> Vector:
        """Return the difference, likewise."""
        rest: Vector = left - right
        if self.limbs > 1:
            rest[:, 1] -= left[:, 0] < right[:, 0]
        return rest

    def mask(self, key: bytes, count: int) -> Vector:
        """Return ``count`` numbers that nobody without ``key`` can tell from uniform ones.

        AES-256 in counter mode from 0: a key is used once.
        """
        cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        stream = cipher.update(bytes(count * self.width))
        return self.read(np.frombuffer(stream, np.uint8))
