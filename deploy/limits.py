"""How much of the gate one plant, and one address, may have: calls a second, connections, memory.

A plant's own share is charged with calls that the SuperLink has accepted, that is with its key
alone: who names another one's key in vain takes nothing from it. An address is charged with all of
its calls. Several plants may share one, so that it may have what all plants together may have.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Any

from starlette.responses import PlainTextResponse, Response
from uvicorn.protocols.http.auto import AutoHTTPProtocol

SAVED = 10.0
"""Seconds whose unused calls may be made at once: a round comes in bursts."""
CONNECTIONS = 16
"""Of one plant; Flower's node has up to five."""
CALLS_AT_ONCE = 4
"""Largest calls of which an address, or four times as many of which all, may be in memory."""
SILENCE = 30.0
"""Seconds after which a connection is ended on which no whole head of a call has come, or no next
piece of its body."""
_REMEMBERED = 10_000


class Rate:
    """Calls a second, averaged (a token bucket for each sender).

    Args:
        calls: A second.
        clock: Tells seconds.

    >>> now = [0.0]
    >>> rate = Rate(calls=1, clock=lambda: now[0])
    >>> for _ in range(10):
    ...     rate.charge("a")
    >>> rate.has_left("a"), rate.has_left("b")
    (False, True)
    >>> now[0] = 1.5
    >>> rate.has_left("a")
    True
    """

    def __init__(self, calls: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._calls, self._clock = calls, clock
        self._spent: dict[str, tuple[float, float]] = {}

    def has_left(self, sender: str) -> bool:
        """Tell whether ``sender`` may make a call now."""
        return self._owed(sender) <= self._calls * SAVED - 1

    def charge(self, sender: str) -> None:
        """Note a call."""
        if len(self._spent) >= _REMEMBERED:
            owed = {who: self._owed(who) for who in self._spent}
            self._spent = {who: self._spent[who] for who, much in owed.items() if much > 0}
        self._spent[sender] = self._owed(sender) + 1, self._clock()

    def _owed(self, sender: str) -> float:
        much, since = self._spent.get(sender, (0.0, 0.0))
        return max(0.0, much - self._calls * (self._clock() - since))


class Shares:
    """What each sender holds of something of which it may have ``most``, and all ``total``."""

    def __init__(self, most: int, total: int | None = None) -> None:
        self._most, self._total = most, total
        self._held: Counter[str] = Counter()
        self._all = 0

    def take(self, sender: str, much: int = 1) -> bool:
        """Give ``sender`` so much more, and tell whether there was so much."""
        full = self._total is not None and self._all + much > self._total
        if full or self._held[sender] + much > self._most:
            return False
        self._held[sender] += much
        self._all += much
        return True

    def give_back(self, sender: str, much: int = 1) -> None:
        """Take back what ``sender`` has had."""
        self._all -= much
        self._held[sender] -= much
        if self._held[sender] <= 0:
            del self._held[sender]


def whose(host: str | None) -> str:
    """Return whom an address stands for: of IPv6 the network, in which one host has them all.

    >>> whose("192.0.2.1"), whose("2001:db8::1:2"), whose("::ffff:192.0.2.1")
    ('192.0.2.1', '2001:db8::', '192.0.2.1')
    """
    try:
        address = ip_address((host or "").partition("%")[0])
    except ValueError:
        return host or "somebody"
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or IPv6Address(int(address) >> 64 << 64))
    return str(address)


def later() -> Response:
    """Return the answer to a call too many; a node tries again after 503, and ends at 429."""
    return PlainTextResponse("too much at once", 503, {"retry-after": "1"})


_USUAL: Any = AutoHTTPProtocol


class _Counted(_USUAL):  # type: ignore[misc]
    _shares: Shares
    _sender: str | None = None
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        sender = whose((transport.get_extra_info("peername") or [None])[0])
        if not self._shares.take(sender):
            transport.abort()
            return
        self._sender = sender
        self._await()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_called():  # whose body has a limit of its own
            self._come()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._come()
        if not (self.transport.is_closing() or self._is_called()):
            self._await()

    def connection_lost(self, error: Exception | None) -> None:
        self._come()
        if self._sender is not None:
            self._shares.give_back(self._sender)
            self._sender = None
        super().connection_lost(error)

    def _is_called(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await(self) -> None:
        loop = asyncio.get_running_loop()
        self._waiting = loop.call_later(SILENCE, self.transport.abort)

    def _come(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


def counted(connections: Shares) -> type[asyncio.Protocol]:
    """Return Uvicorn's protocol that ends connections too many, or on which nothing comes.

    Args:
        connections: By address.
    """
    return type("Counted", (_Counted,), {"_shares": connections})
