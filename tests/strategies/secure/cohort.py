"""A cohort that carries out the protocol without a transport, and whose messages can be changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from strategies.secure import server
from strategies.secure.client import Block, Client
from strategies.secure.journal import Journal
from strategies.secure.records import Agreed, Attempt, Delivered, Offer, Revealed, Tags
from strategies.secure.ring import Bytes, Ring, Vector

RINGS = (Ring(3), Ring(16))


class Cohort:
    """``size`` clients, each with a state that lasts; steps are taken one after the other."""

    def __init__(self, size: int = 5, threshold: int = 3, run: bytes = b"run") -> None:
        self.states: dict[int, dict[str, Any]] = {c: {} for c in range(size)}
        keys = {c: self.client(c).public for c in range(size)}
        self.attempt = Attempt(run, 1, threshold, keys)
        self.offers: dict[int, Offer] = {}
        self.masked: dict[int, list[Bytes]] = {}
        self.sharing: dict[int, Tags] = {}
        self.confirmed: dict[int, Tags] = {}
        self.revealed: dict[int, Revealed] = {}

    def client(self, number: int) -> Client:
        """Return the client as a new process would see it."""
        return Client(number, bytes([number]) * 32, Journal(self.states[number], number))

    def again(self, number: int) -> Attempt:
        """Begin another attempt with the same members."""
        self.attempt = Attempt(
            self.attempt.run, number, self.attempt.threshold, dict(self.attempt.keys)
        )
        self.offers, self.masked, self.sharing = {}, {}, {}
        self.confirmed, self.revealed = {}, {}
        return self.attempt

    def share(self, clients: Iterable[int]) -> None:
        for c in clients:
            self.offers[c] = self.client(c).share(self.attempt)

    def mask(self, vectors: dict[int, Sequence[Vector]]) -> None:
        for c, parts in vectors.items():
            blocks = [Block(ring, part) for ring, part in zip(RINGS, parts, strict=True)]
            mail = server.mailbox(self.offers, c)
            self.masked[c], self.sharing[c] = self.client(c).mask(self.attempt, mail, blocks)

    @property
    def delivered(self) -> Delivered:
        return Delivered(tuple(sorted(self.masked)))

    def confirm(self, clients: Iterable[int]) -> None:
        for c in clients:
            self.confirmed[c] = self.client(c).confirm(self.attempt, self.delivered)

    def agreed(self, reader: int) -> Agreed:
        return server.agreed(self.sharing, self.confirmed, reader)

    def reveal(self, clients: Iterable[int]) -> None:
        for c in clients:
            self.revealed[c] = self.client(c).reveal(
                self.attempt, self.delivered, self.agreed(c), server.mailbox(self.offers, c)
            )

    def total(self) -> list[Vector]:
        return server.unmask(self.attempt, self.offers, self.masked, self.revealed, RINGS)

    def run(
        self,
        vectors: dict[int, Sequence[Vector]],
        sharing: Iterable[int],
        delivering: Iterable[int],
        revealing: Iterable[int],
    ) -> list[Vector]:
        """Return the sum where only some take each step."""
        self.share(sharing)
        self.mask({c: vectors[c] for c in delivering})
        if self.masked.keys() != self.offers.keys():
            self.confirm(self.masked)
        self.reveal(revealing)
        return self.total()


def vectors(size: int, count: int = 4, seed: int = 0) -> dict[int, list[Vector]]:
    """Return what each client adds: small numbers, and numbers over all 128 bits."""
    random = np.random.default_rng(seed)
    return {
        c: [
            random.integers(0, 1 << 20, (count, 1), dtype=np.uint64),
            random.integers(0, 1 << 64, (count, 2), dtype=np.uint64),
        ]
        for c in range(size)
    }


def plain(parts: Iterable[Sequence[Vector]]) -> list[list[int]]:
    """Return the sums as Python's own integers."""
    found = [[integers(vector) for vector in part] for part in parts]
    return [
        [sum(column) % (1 << 8 * ring.width) for column in zip(*rows, strict=True)]
        for ring, rows in zip(RINGS, zip(*found, strict=True), strict=True)
    ]


def integers(vector: Vector) -> list[int]:
    return [sum(int(limb) << 64 * i for i, limb in enumerate(row)) for row in vector]
