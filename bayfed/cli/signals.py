"""Signals that end a command: what it has started is taken down, and one line says so."""

from __future__ import annotations

import signal
import time
from types import FrameType

WORDS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "hung up",
}
PATIENCE = 15.0
"""Seconds in which a further signal must not break off the taking down."""
_last: list[float] = []


class Stopped(BaseException):
    """A signal has asked the command to end.

    No ``KeyboardInterrupt``, for which typer has an answer of its own.

    >>> str(Stopped(signal.SIGTERM)), Stopped(signal.SIGTERM).code
    ('terminated', 143)
    """

    def __init__(self, number: int) -> None:
        super().__init__(WORDS[signal.Signals(number)])
        self.code = 128 + number


def listen() -> None:
    """Let the signals raise ``Stopped``; one that the parent has set aside (nohup) stays so."""
    _last.clear()
    for number in WORDS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    now = time.monotonic()
    if not _last or now - _last[-1] > PATIENCE:
        _last.append(now)
        raise Stopped(number)
