"""Flower's SuperNode, which ends where Flower's leaves a process behind that does nothing.

Its loop ends at an error that it does not try again: a certificate that has expired, an error
inside the SuperLink. The thread that serves the node's other
program then keeps the process alive, and nobody starts it again. Nor does anybody where the thread
of the heartbeats ends: the node goes on asking, and the SuperLink takes it for gone.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from typing import NoReturn

from flwr.supernode.cli import flower_supernode

from deploy.damaged import try_again


def main() -> None:
    """Run a SuperNode until it, or one of its threads, has ended."""
    try_again()
    threading.excepthook = lambda failed: _end(failed.exc_value)
    try:
        flower_supernode()
    except Exception as error:
        _end(error)
    _leave()  # where it was asked to end, it has raised SystemExit


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
