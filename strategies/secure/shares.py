"""Shares of a secret of 128 bits, any t of which give it back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares

SHARE = 36
"""Bytes of a share: its index, and the secret's 16 bytes with a padding of as many."""
TRIES = 1000
"""Choices of t shares that are tried where some are wrong."""


def split(secret: bytes, threshold: int, count: int) -> list[bytes]:
    """Return ``count`` shares of which ``threshold`` give ``secret``, and fewer tell nothing.

    Source: Shamir, How to Share a Secret, 1979; over GF(2^128).
    """
    return create_shares(secret, threshold, count)


def is_share(share: bytes, position: int) -> bool:
    """Return whether ``share`` has the form of the one at a position, from 0."""
    return len(share) == SHARE and int.from_bytes(share[:4], "little") == position + 1


def combine(
    shares: Mapping[int, bytes], threshold: int, is_right: Callable[[bytes], bool]
) -> bytes | None:
    """Return the secret behind ``shares``, by position, ``None`` where it cannot be found.

    A wrong share gives a wrong secret and no sign of it; ``is_right`` tells, and other shares are
    taken.

    >>> parts = dict(enumerate(split(b"sixteen bytes ok", 2, 3)))
    >>> parts[0] = parts[0][:-1] + bytes([parts[0][-1] ^ 1])
    >>> combine(parts, 2, lambda found: found == b"sixteen bytes ok")
    b'sixteen bytes ok'
    """
    sound = [share for position, share in sorted(shares.items()) if is_share(share, position)]
    for chosen in itertools.islice(itertools.combinations(sound, threshold), TRIES):
        try:
            secret = combine_shares(list(chosen))
        except ValueError:  # the padding is not there
            continue
        if is_right(secret):
            return secret
    return None
