"""What a client keeps from one message of a run to the next."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Protocol

from flwr.app import ArrayRecord, Context
from safetensors import SafetensorError
from safetensors.torch import save

from bayfed.errors import FederationError
from bayfed.evaluation.atomic import write_atomic
from bayfed.evaluation.checkpoint import contents, flat, nested
from clients.local import simulated
from clients.session import Session
from strategies.task import Params
from strategies.wire import pack, unpack

DOWNLINK, OWN, SHOWN, UPLINK = "downlink", "own", "shown", "uplink"
"""Where the memories of a client's parts stand."""
LASTING = (OWN, UPLINK)
"""Those of which a resumed run goes on; it sends all parameters anew."""
_RUN = "run"


class Shelf(Protocol):
    """Where a memory lies between messages."""

    def read(self, name: str) -> Params:
        """Return what lies under ``name``, nothing if nothing does."""

    def write(self, changed: dict[str, Params]) -> None:
        """Replace what lies under some names."""


class Memory:
    """Tensors of one client, under the names of its parts.

    A message that fails leaves them as they were: what is set is kept by :meth:`commit`.

    Args:
        passing: Holds them between messages.
        lasting: Holds those of which a resumed run goes on; ``None``: the other does.
    """

    def __init__(self, passing: Shelf, lasting: Shelf | None = None) -> None:
        self._passing, self._lasting = passing, passing if lasting is None else lasting
        self._changed: dict[str, Params] = {}

    @classmethod
    def of(cls, session: Session, context: Context, trains: bool = False) -> Memory:
        """Return the memory of the client that a message is for.

        On a real node that has a ``state-dir`` in its own configuration, what is to last outlasts
        the node's programs. Otherwise it is lost with them; of a client that is only played, the
        server has a copy for a run that is resumed.

        Args:
            session: Of the message.
            context: Of the node.
            trains: Whether the client is to begin the session's round, not to look at its end.
        """
        state, folder = _State(context, session.client), context.node_config.get("state-dir")
        if simulated() or folder is None or not session.run:
            return cls(state)
        before = session.round + (not trains)
        return cls(state, _Folder(Path(str(folder)), session.client, session.run, before))

    def __getitem__(self, name: str) -> Params:
        if name in self._changed:
            return self._changed[name]
        return (self._lasting if name in LASTING else self._passing).read(name)

    def __setitem__(self, name: str, tensors: Params) -> None:
        self._changed[name] = tensors

    def commit(self) -> None:
        """Keep what was set.

        Raises:
            FederationError: the folder cannot be written to.
        """
        lasting = {name: own for name, own in self._changed.items() if name in LASTING}
        if lasting:
            self._lasting.write(lasting)
        self._passing.write({n: own for n, own in self._changed.items() if n not in LASTING})
        self._changed = {}

    @property
    def lasting(self) -> Params:
        """What a resumed run needs."""
        return flat({name: self[name] for name in LASTING})

    def restore(self, lasting: Params) -> None:
        """Go on where :attr:`lasting` was."""
        for name, tensors in nested(lasting).items():
            self[name] = tensors
        self.commit()


class _State:
    """The state that Flower keeps for a node during a run; a simulated node may play several."""

    def __init__(self, context: Context, client: int) -> None:
        self._state, self._client = context.state, client

    def read(self, name: str) -> Params:
        record = self._state.get(self._key(name))
        return unpack(record) if isinstance(record, ArrayRecord) else {}

    def write(self, changed: dict[str, Params]) -> None:
        for name, tensors in changed.items():
            key = self._key(name)
            if tensors:
                self._state[key] = pack(tensors)
            elif key in self._state:
                del self._state[key]

    def _key(self, name: str) -> str:
        return f"{name}/{self._client}"


class _Folder:
    """A file a round in a folder of the node's own; the last two are kept.

    The server may have been killed before it wrote the round down that the client has answered:
    resumed, it asks for it again, and the client begins it with what it had before.

    Args:
        folder: Of the node.
        client: Whose memory it is.
        run: Which run it is of; what lies there of another one is nothing to this.
        before: The round whose beginning is meant.
    """

    def __init__(self, folder: Path, client: int, run: str, before: int) -> None:
        self._folder, self._client, self._run, self._before = folder, client, run, before

    def read(self, name: str) -> Params:
        return self._found[1].get(name, {})

    def write(self, changed: dict[str, Params]) -> None:
        last, found = self._found
        kept = {name: own for name, own in (found | changed).items() if own}
        if not kept and not found:
            return
        path = self._folder / f"memory-{self._client}-{self._before:06d}.safetensors"
        try:
            write_atomic(path, save(flat(kept), {_RUN: self._run}))
            for number, old in self._files().items():
                if number not in (last, self._before):
                    old.unlink(missing_ok=True)
        except OSError as error:
            raise FederationError(f"state-dir: {error.strerror or error}") from error

    def _files(self) -> dict[int, Path]:
        found = self._folder.glob(f"memory-{self._client}-[0-9]*.safetensors")
        return {int(path.stem.rpartition("-")[2]): path for path in found}

    @cached_property
    def _found(self) -> tuple[int, dict[str, Params]]:
        """The last round before, and what was remembered after it."""
        files = self._files()
        for number in sorted(files, reverse=True):
            if number < self._before:
                run, tensors = _read(files[number])
                if run == self._run:
                    return number, nested(tensors)
        return 0, {}


def _read(path: Path) -> tuple[str, Params]:
    """Return the run that the file ``path`` is of, and its tensors."""
    try:
        metadata, tensors = contents(path)
        return metadata.get(_RUN, ""), tensors
    except (SafetensorError, OSError) as error:
        raise FederationError(f"{path.name}: not a readable memory") from error
