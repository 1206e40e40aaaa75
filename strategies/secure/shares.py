"""Shares of a secret of 128 bits, any t of which give it back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from Crypto.Protocol.SecretSharing import Shamir

from bayfed.seeds import stream

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
    taken, drawn at random: those that come first in order would have the first ones in common.

    >>> parts = dict(enumerate(split(b"sixteen bytes ok", 2, 3)))
    >>> parts[0] = bytes(16)
    >>> combine(parts, 2, lambda found: found == b"sixteen bytes ok")
    b'sixteen bytes ok'
    """
    sound = [(place + 1, part) for place, part in sorted(shares.items()) if len(part) == SHARE]
    if len(sound) < threshold:
        return None
    for attempt in range(TRIES):
        order = (
            stream(0, "shares", attempt).permutation(len(sound)) if attempt else range(threshold)
        )
        secret = Shamir.combine([sound[place] for place in order[:threshold]], ssss=False)
        if is_right(secret):
            return secret
    return None
