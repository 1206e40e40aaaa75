"""What the clients of a simulation remember, kept so that the run can be resumed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message
from safetensors import SafetensorError
from safetensors.torch import save

from bayfed.errors import CheckpointError
from bayfed.evaluation.atomic import write_atomic
from bayfed.evaluation.checkpoint import contents
from server.disk import written
from server.exchange import Exchange
from strategies.task import Params
from strategies.wire import MEMORY, Member, instruction, metrics_of, pack, unpack

log = logging.getLogger("bayfed.server")
KEPT = 2
"""Versions of a client: one of a round that is not complete so far, and the one before."""
_FIRST = "first"
"""Key of the metadata: the first round after which the client remembered anything."""


class Memories:
    """A file for each client and round in which it trained; of each client the last two.

    Only a client that is played hands its memory over; a real node keeps it. It comes with the
    reply and not through a common folder, which the machines of a cluster need not have.

    Args:
        folder: Of the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rounds: dict[int, list[int]] = {}
        self._first: dict[int, int] = {}
        self.number = 0
        """The round in which replies come."""

    def take(self, reply: Message) -> None:
        """Take the memory out of ``reply``, if it holds one, and write it down.

        Raises:
            CheckpointError: the disk is full or not writable.
        """
        record = reply.content.get(MEMORY)
        if not isinstance(record, ArrayRecord):
            return
        del reply.content[MEMORY]
        client = int(metrics_of(reply)["partition"])
        first = self._first.setdefault(client, self.number)
        path, data = self._path(client, self.number), save(unpack(record), {_FIRST: str(first)})
        with written(path, "the run can be resumed from its last checkpoint"):
            self._folder.mkdir(exist_ok=True)
            write_atomic(path, data)
            rounds = self._rounds.setdefault(client, [])
            if self.number not in rounds:
                rounds.append(self.number)
            while len(rounds) > KEPT:
                self._path(client, rounds.pop(0)).unlink(missing_ok=True)

    def restore(self, number: int) -> dict[int, Params]:
        """Forget what came after round ``number``; return what each client remembered then.

        Raises:
            CheckpointError: a file cannot be read, or what a client remembered then is not kept.
        """
        rounds: dict[int, list[int]] = {}
        for path in sorted(self._folder.glob("[0-9]*-[0-9]*.safetensors")):
            client, of = map(int, path.stem.split("-"))
            rounds.setdefault(client, []).append(of)
        found: dict[int, Params] = {}
        for client, versions in rounds.items():
            self._first[client], _ = _read(self._path(client, versions[-1]))
            until = [version for version in versions if version <= number]
            if until:
                found[client] = _read(self._path(client, until[-1]))[1]
            elif self._first[client] <= number:
                raise CheckpointError(
                    f"{self._path(client, versions[0])}: what client {client} remembered after "
                    f"round {number} is not kept, so the run cannot go on from there"
                )
            else:
                del self._first[client]
            self._rounds[client] = until
        for client, versions in rounds.items():
            for version in set(versions) - set(self._rounds[client]):
                self._path(client, version).unlink(missing_ok=True)
        return found

    def _path(self, client: int, number: int) -> Path:
        return self._folder / f"{client:05d}-{number:06d}.safetensors"


def _read(path: Path) -> tuple[int, Params]:
    """Return the first round of a client's memory, and the memory."""
    try:
        metadata, tensors = contents(path)
        return int(metadata[_FIRST]), tensors
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable memory of a client") from error


def remind(
    exchange: Exchange,
    config: ConfigRecord,
    members: Sequence[Member],
    remembered: dict[int, Params],
) -> None:
    """Give ``members`` back what they ``remembered``.

    Raises:
        FederationError: one does not take it.
    """
    asked = [
        (m, instruction(m, "query.remember", {MEMORY: pack(remembered[m.client])}, config))
        for m in members
        if m.client in remembered
    ]
    if asked:
        exchange.ask("the memories of the clients", asked).require(1.0)
        log.info("%d clients go on with what they remembered", len(asked))
