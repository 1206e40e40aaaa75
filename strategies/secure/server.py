"""The server's half of a secure sum: it passes on what is sealed, and unmasks the sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bayfed.errors import FederationError
from strategies.secure.client import Block, masked_by
from strategies.secure.keys import SEED, KeyPair, digest, is_public
from strategies.secure.records import Agreed, Attempt, Mailbox, Offer, Revealed, Tags
from strategies.secure.ring import Bytes, Ring, Vector
from strategies.secure.shares import SHARE, combine


class SpoiledError(FederationError):
    """The shares of a client's secret do not give what it has promised.

    Attributes:
        owner: The client.
    """

    def __init__(self, owner: int) -> None:
        super().__init__(
            f"the secret of client {owner} cannot be put together: its shares are wrong"
        )
        self.owner = owner


def offer_refusal(attempt: Attempt, offer: Offer) -> str | None:
    """Return why an offer cannot be passed on, or ``None``."""
    if offer.sealed.keys() != attempt.keys.keys():
        return "shares for each member of the cohort are expected"
    return None if is_public(offer.public) else "its masking key is no public key"


def reveal_refusal(offers: Mapping[int, Offer], revealed: Revealed) -> str | None:
    """Return why the shares of a client cannot be used, or ``None``."""
    if revealed.shares.keys() != offers.keys():
        return "a share of each client who has shared is expected"
    wrong = [owner for owner, part in revealed.shares.items() if len(part) != SHARE]
    return f"what is revealed of client {wrong[0]} is no share" if wrong else None


def mailbox(offers: Mapping[int, Offer], reader: int) -> Mailbox:
    """Return what those who shared have sealed for ``reader``."""
    return Mailbox({author: offer.sealed[reader] for author, offer in sorted(offers.items())})


def agreed(sharing: Mapping[int, Tags], delivered: Mapping[int, Tags], reader: int) -> Agreed:
    """Return the tags for ``reader`` of those who delivered, and of those who confirmed that."""

    def of(tags: Mapping[int, Tags]) -> dict[int, bytes]:
        return {
            author: found.tags[reader]
            for author, found in sorted(tags.items())
            if reader in found.tags
        }

    return Agreed(of(sharing), of(delivered))


def unmask(
    attempt: Attempt,
    offers: Mapping[int, Offer],
    masked: Mapping[int, Sequence[Bytes]],
    revealed: Mapping[int, Revealed],
    rings: Sequence[Ring],
) -> list[Vector]:
    r"""Return the sum over V, one vector for each ring.

    .. math::
        \sum_{i \in V} x_i = \sum_{i \in V} y_i - \sum_{i \in V} G(b_i)
            + \sum_{i \in V, j \in U_2 \setminus V} \pm G(s_{ij})

    Args:
        attempt: What was tried.
        offers: Of :math:`U_2`.
        masked: The wire bytes of V, of equal lengths.
        revealed: What at least t of V have answered.
        rings: Of each block.

    Raises:
        FederationError: there are too few shares, or too many wrong ones.
    """
    if len(revealed) < attempt.threshold:
        raise FederationError(
            f"{len(revealed)} clients gave their shares, {attempt.threshold} are needed"
        )
    masks = [(_seed(attempt, client, offers, revealed), False) for client in masked]
    for gone in sorted(offers.keys() - masked.keys()):
        pair = _key(attempt, gone, offers, revealed)
        # Client i added the mask if j > i; the server takes away what was added.
        masks += [(pair.agree(offers[i].public), gone < i) for i in masked]
    totals = []
    for number, ring in enumerate(rings):
        total = _sum(ring, [blocks[number] for blocks in masked.values()])
        clear = masked_by(attempt, number, Block(ring, total), masks)
        totals.append(ring.read(clear))
    return totals


def _sum(ring: Ring, blocks: Sequence[Bytes]) -> Vector:
    total = np.zeros_like(ring.read(blocks[0]))
    for data in blocks:
        total = ring.add(total, ring.read(data))
    return total


def _seed(
    attempt: Attempt, owner: int, offers: Mapping[int, Offer], revealed: Mapping[int, Revealed]
) -> bytes:
    proof = offers[owner].proof
    return _combined(
        attempt, owner, revealed, lambda s: len(s) == SEED and digest("own mask", s) == proof
    )


def _key(
    attempt: Attempt, owner: int, offers: Mapping[int, Offer], revealed: Mapping[int, Revealed]
) -> KeyPair:
    public = offers[owner].public
    return KeyPair(_combined(attempt, owner, revealed, lambda s: KeyPair(s).public == public))


def _combined(
    attempt: Attempt,
    owner: int,
    revealed: Mapping[int, Revealed],
    is_right: Callable[[bytes], bool],
) -> bytes:
    shares = {attempt.position(c): found.shares[owner] for c, found in revealed.items()}
    secret = combine(shares, attempt.threshold, is_right)
    if secret is None:
        raise SpoiledError(owner)
    return secret
