"""What a client remembers of the attempts that it took part in, so that it answers none twice."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bayfed.errors import FederationError
from bayfed.evaluation.atomic import write_atomic

SHARED, MASKED, CONFIRMED, REVEALED = "shared", "masked", "confirmed", "revealed"


@dataclass(frozen=True)
class Entry:
    """The last attempt of a client; nothing in it is secret.

    Attributes:
        number: Of the attempt.
        digest: What the attempt was.
        salt: What makes the attempt's keys differ from those of every other one.
        step: The last one that was answered.
        sharing: Who has shared.
        delivered: Who has delivered, if it was confirmed.
        run: Of the attempt.
        peers: The public keys that were seen in this run.
    """

    number: int = 0
    digest: str = ""
    salt: str = ""
    step: str = ""
    sharing: tuple[int, ...] = ()
    delivered: tuple[int, ...] = ()
    run: str = ""
    peers: dict[str, str] = field(default_factory=dict)


class Journal:
    """Keeps the entry of a client in Flower's state of the node, and in a file where it has one.

    Args:
        state: Lasts as long as the run on a node that is not restarted.
        client: Whose journal it is.
        folder: Of the file, which survives both.
    """

    def __init__(
        self, state: MutableMapping[str, Any], client: int, folder: Path | None = None
    ) -> None:
        self._state, self._key = state, f"client-{client}"
        self._path = None if folder is None else folder / f"secure-{client}.json"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from answering in between.

        Raises:
            FederationError: the folder of the file cannot be used.
        """
        if self._path is None:
            yield
            return
        try:
            folder = os.open(self._path.parent, os.O_RDONLY)
        except OSError as error:
            raise FederationError(f"state-dir: {error.strerror or error}") from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def read(self) -> Entry:
        """Return the entry, an empty one before the first attempt.

        Raises:
            FederationError: it is damaged.
        """
        try:
            if self._path is None:
                text = str(self._state.get(self._key, "{}"))
            else:
                text = self._path.read_text("utf-8") if self._path.exists() else "{}"
            found = json.loads(text)
            lists = {key: tuple(v) for key, v in found.items() if isinstance(v, list)}
            return Entry(**{**found, **lists})
        except (OSError, TypeError, ValueError) as error:
            where = "the node's state" if self._path is None else self._path.name
            raise FederationError(f"{where}: the journal of secure sums is damaged") from error

    def write(self, entry: Entry) -> None:
        """Replace the entry; once this returns, the step may be answered.

        Raises:
            FederationError: the file cannot be written, so nothing must be answered.
        """
        text = json.dumps(asdict(entry), separators=(",", ":"))
        if self._path is None:
            self._state[self._key] = text
            return
        try:
            write_atomic(self._path, text.encode())
        except OSError as error:
            raise FederationError(f"state-dir: {error.strerror or error}") from error
