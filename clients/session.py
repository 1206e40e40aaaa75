"""One message as a client sees it: who is meant, which experiment, which factory."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from flwr.app import Context, Message
from pydantic import ValidationError

from bayfed.config import Experiment, key_of
from bayfed.errors import ConfigError, FederationError
from bayfed.fingerprint import fingerprint
from clients.local import LocalPaths, localise, simulated
from strategies.wire import CODE, config_of

if TYPE_CHECKING:
    from clients.factory import Factory

KEPT = 2048
"""Factories that one process keeps open; their features are mapped, not held."""
MAX_EXPERIMENT = 1 << 20
"""Longest accepted experiment, in characters of JSON."""

_open: OrderedDict[tuple[str, int, LocalPaths], Factory] = OrderedDict()


@dataclass(frozen=True)
class Session:
    """What a message asks for, checked."""

    experiment: Experiment
    client: int
    round: int
    paths: LocalPaths
    key: str
    threads: int = 1
    run: str = ""
    """Which run it is of; the same after it was resumed."""

    def factory(self) -> Factory:
        """Return the client's factory, opened once in this process."""
        torch.set_num_threads(self.threads)
        key = (self.key, self.client, self.paths)
        if key not in _open:
            _open[key] = self._fresh()
        _open.move_to_end(key)
        while len(_open) > KEPT:
            _open.popitem(last=False)
        return _open[key]

    def _fresh(self) -> Factory:
        # Late, because a message that is refused must not cost the import of the training stack.
        from clients.factory import Factory

        local = localise(self.experiment, self.paths)
        number = self.client if self.paths.data_dir is None else None
        return Factory.open(local, number)

    def name(self) -> str:
        """Return the factory's name if it is open, else its number."""
        factory = _open.get((self.key, self.client, self.paths))
        return f"client {self.client}" if factory is None else factory.name


def close_all() -> None:
    """Forget the factories that this process keeps open, and their sites."""
    from clients.pools import close_stocks  # late, as the factory

    _open.clear()
    close_stocks()


def identity(message: Message, context: Context) -> int:
    """Return the partition that the message is for.

    A simulated node plays whomever the message names; a real one is its own
    ``partition-id`` and nobody else.

    Raises:
        FederationError: the node has no partition-id, or another one is meant.
    """
    own = context.node_config.get("partition-id")
    asked = config_of(message).get("client", -1)
    if simulated() and isinstance(asked, int) and asked >= 0:
        return asked
    if not isinstance(own, int):
        raise FederationError("this node has no partition-id in its --node-config")
    if asked not in (own, -1):
        raise FederationError(f"the message is for client {asked!r}, this node is client {own}")
    return own


def read(message: Message, context: Context) -> Session:
    """Return the session that ``message`` belongs to.

    Raises:
        FederationError: server and client do not run the same code.
        ConfigError: the experiment in the message is not valid.
    """
    config = config_of(message)
    own, theirs = fingerprint(*CODE), config.get("fingerprint")
    if theirs != own:
        shown = theirs[:12] if isinstance(theirs, str) else "none"
        raise FederationError(
            f"code differs: this client has {own[:12]}, the server {shown}; "
            "install the same version on both"
        )
    text, round_ = config.get("experiment"), config.get("round")
    if not isinstance(text, str) or len(text) > MAX_EXPERIMENT:
        raise ConfigError("the message holds no experiment")
    if not isinstance(round_, int) or round_ < 0:
        raise ConfigError("the message holds no round")
    paths = LocalPaths.of(context.node_config)
    key = hashlib.sha256(text.encode()).hexdigest()
    threads = context.node_config.get("threads", 1)
    run = config.get("run", "")
    return Session(
        *(_parse(text), identity(message, context), round_, paths, key, max(1, int(threads))),
        run=run if isinstance(run, str) else "",
    )


@lru_cache(maxsize=8)
def _parse(text: str) -> Experiment:
    try:
        return Experiment.model_validate_json(text)
    except ValidationError as error:
        key = key_of(error.errors()[0]["loc"])
        raise ConfigError(f"the experiment in the message is not valid at {key!r}") from error
