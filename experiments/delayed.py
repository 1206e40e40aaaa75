"""Nodes of unlike speed on a clock that runs ahead: hours of a federation in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flwr.app import Message

from experiments.inprocess import Answers, InProcessGrid
from server.exchange import Clock

Delay = Callable[[Message], float]
"""Seconds that a node works on a message."""


class DelayedGrid(InProcessGrid):
    """In-process nodes, each of which takes its time for one message after the other.

    What they compute is computed at once; the replies are there when the clock says so, and the
    clock moves when the server waits.

    Args:
        app: Of the clients.
        nodes: How many.
        delay: How long a message takes.
    """

    def __init__(self, app: Answers, nodes: int, delay: Delay) -> None:
        super().__init__(app, nodes)
        self._delay, self._now = delay, 0.0
        self._free: dict[int, float] = {}
        self._ready: dict[str, float] = {}
        self.clock = Clock(lambda: self._now, self._pass)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Answer ``messages``, and keep each reply until its node would have finished it."""
        asked = list(messages)
        identities = list(super().push_messages(asked))
        for message, identity in zip(asked, identities, strict=True):
            node = message.metadata.dst_node_id
            begun = max(self._now, self._free.get(node, 0.0))
            self._free[node] = self._ready[identity] = begun + self._delay(message)
        return identities

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there by now."""
        return super().pull_messages([m for m in message_ids if self._ready[m] <= self._now])

    def _pass(self, seconds: float) -> None:
        self._now += seconds
