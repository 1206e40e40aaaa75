"""Replies as they come in, each fetched by itself where their senders are strangers.

A reply names in its own content which message it answers, and Flower's Grid believes that. The
Grid also waits for content that was announced and never sent, and what is raised while one reply
is read takes those along that were fetched with it. So which message a reply answers is known from
which one it was fetched for, and nobody waits for a fetch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import httpx
from flwr.app import Message
from flwr.serverapp import Grid

Answer = Message | str
"""A reply, or why it cannot be read."""
PATIENCE = 1.0
"""Seconds that one look waits for replies that take long to fetch; a later look has them."""
BESIDE = 32
"""Replies that are fetched beside each other."""
AGAIN, SELDOM = 0.05, 0.5
"""Seconds between two looks for a tensor that is on its way, at first and at most; Flower's own
are 1 and 10, which every reply that is seen while it is uploaded would cost its round."""
FLOWER = "flwr.superlink.grid.http_grid"


def hasten() -> None:
    """Let this process look again soon for what is on its way."""
    flower: Any = import_module(FLOWER)
    if not isinstance(flower.pull_objects, partial):
        flower.pull_objects = partial(
            flower.pull_objects, initial_backoff=AGAIN, backoff_cap=SELDOM
        )


@dataclass
class _Fetch:
    """One fetch, which ends when it likes: nobody waits for its thread."""

    grid: Grid
    identity: str
    found: list[Message] = field(default_factory=list)
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.found = list(self.grid.pull_messages([self.identity]))
        except BaseException as error:  # the one who looks is told
            self.error = error

    def answer(self) -> Answer | None:
        """Return what came, ``None`` if nothing has come so far.

        Raises:
            BaseException: the SuperLink cannot be asked, whoever has sent what.
        """
        if isinstance(self.error, Exception) and not isinstance(self.error, httpx.HTTPError):
            return f"the reply cannot be read ({type(self.error).__name__}: {self.error})"
        if self.error is not None:
            raise self.error
        for message in self.found:
            if message.metadata.reply_to_message_id == self.identity:
                return message
        return "the reply says that it answers another message" if self.found else None


class Inbox:
    """The replies that a Grid holds.

    Args:
        grid: Where they come in.
        together: Whether they are fetched all at once: where this machine has made them itself.
    """

    def __init__(self, grid: Grid, together: bool) -> None:
        self._grid, self._together = grid, together
        self._fetches: dict[str, _Fetch] = {}
        if not together:
            hasten()

    def look(self, identities: Iterable[str]) -> list[tuple[str, Answer]]:
        """Return what has come in reply to the messages ``identities``, with their identities."""
        asked = set(identities)
        if self._together:
            found = self._grid.pull_messages(asked)
            return [(reply.metadata.reply_to_message_id, reply) for reply in found]
        until = time.monotonic() + PATIENCE
        fresh = sorted(asked - self._fetches.keys())
        for first in range(0, len(fresh), BESIDE):
            for identity in fresh[first : first + BESIDE]:
                self._fetches[identity] = _Fetch(self._grid, identity)
            self._wait(until)
        self._wait(until)
        return self._collected(asked)

    def _wait(self, until: float) -> None:
        for fetch in self._fetches.values():
            fetch.thread.join(max(0.0, until - time.monotonic()))

    def _collected(self, asked: set[str]) -> list[tuple[str, Answer]]:
        done = {key: fetch for key, fetch in self._fetches.items() if not fetch.thread.is_alive()}
        self._fetches = {key: f for key, f in self._fetches.items() if key not in done}
        answers = [(key, fetch.answer()) for key, fetch in done.items()]
        return [(key, answer) for key, answer in answers if answer is not None and key in asked]
