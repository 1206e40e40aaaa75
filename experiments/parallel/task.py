"""A call that can wait for others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bayfed.errors import BayfedError, FederationError, one_line


@dataclass(frozen=True, eq=False)
class Task:
    """A call that a worker makes once the tasks that it needs are done.

    Attributes:
        key: Tells it from every other task.
        kind: Of work, for the progress bars.
        title: In words, for messages.
        function: A function of a module, so that it can be pickled.
        arguments: Of the call.
        needs: Keys of other tasks.
        size: Steps on the progress bar.
        history: The file that gets a line for each step but the first, if there is one.
    """

    key: str
    kind: str
    title: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    needs: tuple[str, ...] = ()
    size: int = 1
    history: Path | None = None


def use_one_thread() -> None:
    """Let this worker compute on one core; the others have workers of their own."""
    import torch

    torch.set_num_threads(1)


def attempt(function: Any, *arguments: Any) -> Any:
    """Call ``function`` in a worker; what went wrong comes back as one line.

    Raises:
        BayfedError: the call failed, by the user's mistake or not.
    """
    try:
        return function(*arguments)
    except (BayfedError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise FederationError(one_line(error)) from error
