"""Shares of a secret of 128 bits, any t of which give it back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from Crypto.Protocol.SecretSharing import Shamir

SHARE = 16
"""Bytes of a share, which does not hold its index."""
TRIES = 1000
"""Choices of t shares that are tried where some are wrong."""


def split(secret: bytes, threshold: int, count: int) -> list[bytes]:
    """Return ``count`` shares of which ``threshold`` give ``secret``, and fewer tell nothing.

    Source: Shamir, How to Share a Secret, 1979; over GF(2^128).
    """
    return [share for _, share in Shamir.split(threshold, count, secret, ssss=False)]


def combine(
    shares: Mapping[int, bytes], threshold: int, is_right: Callable[[bytes], bool]
) -> bytes | None:
    """Return the secret behind ``shares``, by position from 0, ``None`` where it cannot be found.

    A wrong share gives a wrong secret and no sign of it; ``is_right`` tells, and other shares are
    taken.

    >>> parts = dict(enumerate(split(b"sixteen bytes ok", 2, 3)))
    >>> parts[0] = bytes(16)
    >>> combine(parts, 2, lambda found: found == b"sixteen bytes ok")
    b'sixteen bytes ok'
    """
    sound = [(place + 1, part) for place, part in sorted(shares.items()) if len(part) == SHARE]
    for chosen in itertools.islice(itertools.combinations(sound, threshold), TRIES):
        secret = Shamir.combine(list(chosen), ssss=False)
        if is_right(secret):
            return secret
    return None
