"""The client's half of a secure sum."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bayfed.errors import FederationError
from strategies.secure.journal import CONFIRMED, MASKED, REVEALED, SHARED, Entry, Journal
from strategies.secure.keys import PUBLIC, SEED, KeyPair, derive, digest, joined, seal, tag, unseal
from strategies.secure.records import (
    Agreed,
    Attempt,
    Delivered,
    Mailbox,
    Offer,
    Revealed,
    Tags,
)
from strategies.secure.ring import Bytes, Ring, Vector
from strategies.secure.shares import SHARE, split

UNOPENED = "the shares from client {} cannot be opened"
"""How a client says whose shares are not as they should be."""


@dataclass(frozen=True)
class Block:
    """Numbers that are added, and what they are added modulo."""

    ring: Ring
    vector: Vector


@dataclass(frozen=True)
class _Opened:
    """What one peer has sealed: its masking key, and a share of each of its two secrets."""

    public: bytes
    key_share: bytes
    seed_share: bytes


class Client:
    """One client in the attempts of a run; it keeps nothing but its secret and its journal.

    Every step raises a FederationError where the server asks for what it must not have, and is
    answered once.

    Args:
        number: Of the client.
        secret: 32 bytes.
        journal: What it has answered.
        peers: The public keys that were told to the node beforehand; others are refused.
    """

    def __init__(
        self, number: int, secret: bytes, journal: Journal, peers: Mapping[int, bytes] | None = None
    ) -> None:
        self._number, self._secret, self._journal = number, secret, journal
        self._peers = peers
        self._identity = KeyPair(derive(secret, "identity"))
        self._shared: dict[bytes, bytes] = {}

    @property
    def public(self) -> bytes:
        """The public key that stands for this client in every run."""
        return self._identity.public

    @property
    def latest(self) -> int:
        """The number of the last attempt, which the next one must exceed."""
        return self._journal.read().number

    def share(self, attempt: Attempt) -> Offer:
        """Draw the secrets of ``attempt`` and hand out their shares, sealed."""
        with self._journal.alone():
            attempt.check()
            before = self._journal.read()
            if attempt.number <= before.number:
                raise FederationError(
                    f"attempt {attempt.number} is not after {before.number}: it was answered before"
                )
            known = self._check_keys(attempt, before)
            entry = Entry(
                number=attempt.number,
                digest=attempt.digest.hex(),
                salt=os.urandom(SEED).hex(),
                step=SHARED,
                run=attempt.run.hex(),
                peers={str(client): key.hex() for client, key in known.items()},
            )
            self._journal.write(entry)
        key_seed, own_seed = self._seeds(entry)
        public = KeyPair(key_seed).public
        size, threshold = len(attempt.keys), attempt.threshold
        parts = zip(
            sorted(attempt.keys),
            split(key_seed, threshold, size),
            split(own_seed, threshold, size),
            strict=True,
        )
        sealed = {
            peer: seal(self._mail(attempt, self._number, peer), public + key_part + seed_part)
            for peer, key_part, seed_part in parts
        }
        return Offer(public, digest("own mask", own_seed), sealed)

    def mask(
        self, attempt: Attempt, mail: Mailbox, blocks: Sequence[Block]
    ) -> tuple[list[Bytes], Tags]:
        """Return ``blocks`` under the masks of those whose shares are in ``mail``."""
        sharing = tuple(sorted(mail.sealed))
        self._check_members(attempt, sharing, attempt.keys, "have shared")
        with self._journal.alone():
            entry = self._entry(attempt, SHARED)
            opened = self._open(attempt, mail)
            key_seed, own_seed = self._seeds(entry)
            own, masks = KeyPair(key_seed), [(own_seed, True)]
            if opened[self._number].public != own.public:
                raise FederationError("the shares that came back are not this client's own")
            self._journal.write(replace(entry, step=MASKED, sharing=sharing))
        for peer, found in opened.items():
            if peer != self._number:
                masks.append((own.agree(found.public), peer > self._number))
        masked = [masked_by(attempt, number, block, masks) for number, block in enumerate(blocks)]
        return masked, self._tags(attempt, "sharing", sharing, sharing)

    def confirm(self, attempt: Attempt, delivered: Delivered) -> Tags:
        """Tell the others who is said to have delivered, one set of clients and never another."""
        with self._journal.alone():
            entry = self._entry(attempt, MASKED)
            clients = tuple(sorted(delivered.clients))
            self._check_members(attempt, clients, entry.sharing, "have delivered")
            self._journal.write(replace(entry, step=CONFIRMED, delivered=clients))
        return self._tags(attempt, "delivered", clients, clients)

    def reveal(
        self, attempt: Attempt, delivered: Delivered, agreed: Agreed, mail: Mailbox
    ) -> Revealed:
        """Return what unmasks the sum over those who delivered: for each client one share."""
        clients = tuple(sorted(delivered.clients))
        with self._journal.alone():
            entry = self._entry(attempt, MASKED, CONFIRMED)
            self._check_members(attempt, clients, entry.sharing, "have delivered")
            self._check_tags(attempt, "sharing", entry.sharing, agreed.sharing, clients)
            if clients != entry.sharing or entry.step == CONFIRMED:
                self._check_confirmed(attempt, entry, clients, agreed)
            if tuple(sorted(mail.sealed)) != entry.sharing:
                raise FederationError("the shares of others than those who have shared are there")
            opened = self._open(attempt, mail)
            self._journal.write(replace(entry, step=REVEALED))
        return Revealed(
            {
                peer: found.seed_share if peer in clients else found.key_share
                for peer, found in opened.items()
            }
        )

    def _check_keys(self, attempt: Attempt, before: Entry) -> dict[int, bytes]:
        """Return the public keys that were seen in this run.

        Raises:
            FederationError: one has changed, or is not the one that this node was told.
        """
        if attempt.keys.get(self._number) != self.public:
            raise FederationError("the public key that is named for this client is not its own")
        seen: dict[int, bytes] = {}
        if before.run == attempt.run.hex():
            seen = {int(client): bytes.fromhex(key) for client, key in before.peers.items()}
        for client, key in attempt.keys.items():
            own = client == self._number
            if self._peers is not None and not own and self._peers.get(client) != key:
                raise FederationError(f"peers: the key of client {client} is not the one in there")
            if seen.get(client, key) != key:
                raise FederationError(f"the key of client {client} has changed during the run")
        return {**seen, **attempt.keys}

    def _check_members(
        self, attempt: Attempt, clients: Sequence[int], among: Iterable[int], what: str
    ) -> None:
        if strangers := set(clients) - set(among):
            raise FederationError(f"client {min(strangers)} cannot {what}: it took no part before")
        if len(clients) < attempt.threshold:
            raise FederationError(
                f"{len(clients)} clients {what}, {attempt.threshold} are needed for a secure sum"
            )
        if self._number not in clients:
            raise FederationError(f"this client is not among those who {what}")

    def _entry(self, attempt: Attempt, *steps: str) -> Entry:
        """Return the journal's entry of ``attempt``, if the last step was one of ``steps``."""
        entry = self._journal.read()
        if entry.digest != attempt.digest.hex():
            raise FederationError(f"this client does not take part in attempt {attempt.number}")
        if entry.step not in steps:
            raise FederationError(
                f"attempt {attempt.number}: this client stands behind the step {entry.step!r} "
                "and answers each one once"
            )
        return entry

    def _seeds(self, entry: Entry) -> tuple[bytes, bytes]:
        """Return the seeds of an attempt's masking key and of its own mask."""
        salt = bytes.fromhex(entry.salt)
        key = derive(self._secret, "masking key", entry.digest, salt, length=SEED)
        return key, derive(self._secret, "own mask", entry.digest, salt, length=SEED)

    def _agreed(self, attempt: Attempt, peer: int) -> bytes:
        public = attempt.keys[peer]
        if public not in self._shared:
            self._shared[public] = self._identity.agree(public)
        return self._shared[public]

    def _mail(self, attempt: Attempt, author: int, reader: int) -> bytes:
        """Return the key of what one client seals for another."""
        peer = author if reader == self._number else reader
        return derive(self._agreed(attempt, peer), "mail", attempt.digest, author, reader)

    def _open(self, attempt: Attempt, mail: Mailbox) -> dict[int, _Opened]:
        """Return what is in ``mail``.

        Raises:
            FederationError: something was changed on its way; its author is named.
        """
        opened = {}
        for author, sealed in sorted(mail.sealed.items()):
            text = unseal(self._mail(attempt, author, self._number), sealed)
            if text is None or len(text) != PUBLIC + 2 * SHARE:
                raise FederationError(UNOPENED.format(author))
            ends = PUBLIC, PUBLIC + SHARE
            opened[author] = _Opened(text[: ends[0]], text[ends[0] : ends[1]], text[ends[1] :])
        return opened

    def _tags(
        self, attempt: Attempt, kind: str, clients: Sequence[int], peers: Iterable[int]
    ) -> Tags:
        return Tags({p: self._tag(attempt, kind, clients, self._number, p) for p in peers})

    def _tag(
        self, attempt: Attempt, kind: str, clients: Sequence[int], author: int, reader: int
    ) -> bytes:
        peer = author if reader == self._number else reader
        key = derive(self._agreed(attempt, peer), "tag", attempt.digest)
        return tag(key, kind, author, reader, joined(*clients))

    def _check_tags(
        self,
        attempt: Attempt,
        kind: str,
        clients: Sequence[int],
        tags: Mapping[int, bytes],
        needed: Iterable[int],
    ) -> None:
        for peer in needed:
            right = self._tag(attempt, kind, clients, peer, self._number)
            if not hmac.compare_digest(tags.get(peer, b""), right):
                raise FederationError(f"client {peer} was not told of the same clients: {kind}")

    def _check_confirmed(
        self, attempt: Attempt, entry: Entry, clients: tuple[int, ...], agreed: Agreed
    ) -> None:
        if entry.step != CONFIRMED or entry.delivered != clients:
            raise FederationError("a client who shared did not deliver, and this was not confirmed")
        confirming = set(agreed.delivered) & set(clients)
        if len(confirming) < attempt.threshold:
            raise FederationError(
                f"{len(confirming)} clients have confirmed who delivered, "
                f"{attempt.threshold} are needed"
            )
        self._check_tags(attempt, "delivered", clients, agreed.delivered, confirming)


def masked_by(
    attempt: Attempt, number: int, block: Block, masks: Iterable[tuple[bytes, bool]]
) -> Bytes:
    """Return a block with the mask of each key added, or taken away, as wire bytes."""
    ring, total = block.ring, block.vector
    for key, adds in masks:
        mask = ring.mask(derive(key, "mask", attempt.digest, number), len(total))
        total = ring.add(total, mask) if adds else ring.subtract(total, mask)
    return ring.write(total)
