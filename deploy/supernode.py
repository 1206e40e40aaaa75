"""Flower's SuperNode, which ends where Flower's leaves a process behind that does nothing.

Its loop ends at an error that it does not try again: a certificate that has expired, an error
inside the SuperLink. The thread that serves the node's other program then keeps the process alive,
and nobody starts it again. Nor does anybody where the thread of the heartbeats ends: the node goes
on asking, and the SuperLink takes it for gone.

A byte that is damaged on the way ends a TLS connection. Flower gives up at every error that speaks
of TLS: a reply that was being sent is thrown away, and the server waits for it until its deadline.
Here that is a lost connection like any other, and the call is made again on a new one; the
SuperLink knows what it has received before. Handshakes that go on failing are given up as before,
and a foreign certificate at once.

And its waits are shorter: for what a message holds, which comes just after it, and for the reply.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from functools import partial
from types import SimpleNamespace
from typing import Any, NoReturn

import httpx
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.cli import flower_supernode

HANDSHAKES = 5
"""How many in a row may fail, where no certificate is at fault."""
WAIT, LONGEST_WAIT = 0.05, 1.0
"""Seconds between two looks for a part of a message, and for its reply."""
_CONNECTED = (httpx.ReadError, httpx.WriteError)
"""What ends a call on a connection whose handshake is over."""


def main() -> None:
    """Run a SuperNode until it, or one of its threads, has ended."""
    threading.excepthook = lambda failed: _end(failed.exc_value)
    try:
        bear_damage(fleet_http_connection)
        hasten(start_client_internal)
        flower_supernode()
    except Exception as error:
        _end(error)
    _leave()  # where it was asked to end, it has raised SystemExit


def bear_damage(flower: Any) -> None:
    """Let the calls that Flower's module ``flower`` makes be made again where TLS was damaged.

    Whether a call is given up is decided in a function that Flower has no option for.
    """
    usual = flower.make_simple_http_retry_invoker
    flower.make_simple_http_retry_invoker = lambda: _Bearing(usual()).invoker


def hasten(flower: Any) -> None:
    """Let Flower's module ``flower`` look sooner again for what is about to come.

    How long it waits between two questions to the SuperLink stays as it is.
    """
    flower.pull_objects = partial(
        flower.pull_objects, initial_backoff=WAIT, backoff_cap=LONGEST_WAIT
    )
    flower.time = SimpleNamespace(
        sleep=lambda seconds: time.sleep(seconds if seconds > 1 else WAIT)
    )


class _Bearing:
    """An invoker of Flower's that is patient with damage."""

    def __init__(self, invoker: Any) -> None:
        self.invoker, self._failed = invoker, 0
        self._gives_up, self._on_success = invoker.should_giveup, invoker.on_success
        invoker.should_giveup, invoker.on_success = self._judge, self._succeeded

    def _judge(self, error: Exception) -> bool:
        if isinstance(error, _CONNECTED):
            return False
        self._failed += 1
        shaken = isinstance(error, httpx.ConnectError) and "certificate" not in str(error).lower()
        return not (shaken and self._failed <= HANDSHAKES) and bool(self._gives_up(error))

    def _succeeded(self, state: Any) -> None:
        self._failed = 0
        self._on_success(state)


def _end(error: BaseException | None) -> NoReturn:
    said = "".join(traceback.format_exception_only(error)).strip()
    sys.stderr.write(f"ERROR: {said}\n")
    _leave()


def _leave() -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    main()
