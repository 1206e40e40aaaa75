"""Random streams keyed by what they are for, never by the order of calls."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Key = str | int


def _entropy(seed: int, key: tuple[Key, ...]) -> int:
    # A NumPy integer prints otherwise than the equal int.
    parts = (part if isinstance(part, str) else int(part) for part in key)
    text = repr((int(seed), *parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")


def stream(seed: int, *key: Key) -> np.random.Generator:
    """Return the NumPy stream of ``key`` under ``seed``.

    Streams of different keys are independent, so neither the number of workers
    nor the order in which they ask changes what anyone draws.

    >>> bool(stream(0, "round", 3).integers(100) == stream(0, "round", 3).integers(100))
    True
    """
    return np.random.Generator(np.random.PCG64(_entropy(seed, key)))


def torch_stream(seed: int, *key: Key) -> torch.Generator:
    """Return the torch stream of ``key`` under ``seed`` (CPU).

    >>> import torch
    >>> a, b = torch_stream(0, "init"), torch_stream(0, "init")
    >>> bool(torch.equal(torch.rand(2, generator=a), torch.rand(2, generator=b)))
    True
    """
    import torch  # late: who only draws with NumPy need not pay for it

    generator = torch.Generator()
    generator.manual_seed(_entropy(seed, key) % (1 << 63))
    return generator
