"""How replies are taken from Flower's SuperLink, so that none keeps the others waiting.

Flower announces a reply before its tensors have come. Who takes it then waits for them: a second,
two, four and so on, for up to two hours, while every other reply stands behind. A plant whose link
breaks in the middle of an upload, or that never sends what it has announced, would stop a round.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

AGAIN, SELDOM = 0.05, 0.5
"""Seconds between two looks for a tensor that is on its way, at first and at most."""
LEAST = 5.0
"""Seconds that an upload is given, even where the round is over."""
FLOWER = "flwr.superlink.grid.http_grid"


def pull(grid: Grid, waiting: Iterable[str], patience: float) -> Iterable[Message]:
    """Return the replies that have come to the messages in ``waiting``.

    A reply whose tensors are still on their way after ``patience`` seconds, or ``LEAST`` where
    that is more, is returned as an error.
    """
    with _impatient(max(patience, LEAST)):
        return grid.pull_messages(waiting)


@contextmanager
def _impatient(seconds: float) -> Iterator[None]:
    # The only place where Flower can be told: its functions take it, its Grid passes nothing on.
    flower: Any = import_module(FLOWER)
    original = flower.pull_objects
    flower.pull_objects = partial(
        original, max_time=seconds, initial_backoff=AGAIN, backoff_cap=SELDOM
    )
    try:
        yield
    finally:
        flower.pull_objects = original
