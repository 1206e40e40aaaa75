"""One exchange with the clients: ask, wait, judge each reply, keep a quorum."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, Message
from flwr.serverapp import Grid
from flwr.superlink.grid import InMemoryGrid

from bayfed.errors import FederationError
from strategies.secure.steps import size
from strategies.wire import ERROR, INFO, Member, metrics_of

log = logging.getLogger("bayfed.server")
Refusal = Callable[[Message], str | None]
"""Why a reply must not be used, or ``None``."""
Listener = Callable[[str, int, int], None]
"""Is told the phase, how many have answered, and of how many."""
_DEAD = ("ActorDiedError", "RayActorError", "ActorUnavailableError")


@dataclass
class Replies:
    """What came back from the members that were asked, sorted by client.

    Attributes:
        phase: what was asked, for messages to the user.
        good: the usable replies, in the order of the clients.
        refused: why each other client's reply is missing.
        silent: the names of those who sent no reply at all.
        seconds: wall time of the exchange.
        bytes_down: bytes of tensors sent, and of what secure sums need beside them.
        bytes_up: bytes received, likewise.
        means: means over the clients, where only their sum is known.
    """

    phase: str
    good: dict[Member, Message] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    seconds: float = 0.0
    bytes_down: int = 0
    bytes_up: int = 0
    means: dict[str, float] = field(default_factory=dict)

    def refuse(self, member: Member, reason: str) -> None:
        """Take a reply back out of the usable ones."""
        del self.good[member]
        self.refused[member.name] = reason
        log.warning("%s: %s: %s", self.phase, member.name, reason)

    def compute(self) -> dict[str, float]:
        """Return the seconds that each client says it computed."""
        return {m.name: metrics_of(r).get("seconds", 0.0) for m, r in self.good.items()}

    def require(self, quorum: float) -> None:
        """Check that enough clients answered well.

        Raises:
            FederationError: fewer than ``quorum`` times the asked, or nobody.
        """
        asked = len(self.good) + len(self.refused)
        self.need(max(1, math.ceil(quorum * asked)))

    def need(self, needed: int) -> None:
        """Check that at least ``needed`` clients answered well.

        Raises:
            FederationError: they did not.
        """
        asked = len(self.good) + len(self.refused)
        if len(self.good) < needed:
            reasons = "; ".join(f"{name}: {why}" for name, why in self._worst())
            raise FederationError(
                f"{self.phase}: {len(self.good)} of {asked} clients answered, "
                f"{needed} are needed ({reasons})"
            )

    def _worst(self, shown: int = 3) -> list[tuple[str, str]]:
        named = sorted(self.refused.items())
        rest = len(named) - shown
        return named[:shown] + ([("others", str(rest))] if rest > 0 else [])


class Exchange:
    """Sends instructions over a Grid and waits for the replies.

    Flower's own ``send_and_receive`` looks every 0.1 s in a simulation and every 3 s on
    a network; this one looks more often, and ends at once when a worker has died.
    """

    def __init__(self, grid: Grid, timeout: float, tell: Listener = lambda *_: None) -> None:
        self.grid, self.timeout, self.tell = grid, timeout, tell
        self.simulated = in_simulation(grid)
        self.pause = 0.01 if self.simulated else 0.5

    def ask(
        self,
        phase: str,
        asked: Sequence[tuple[Member, Message]],
        refusal: Refusal = lambda _: None,
    ) -> Replies:
        """Send one message to each member and return their replies, judged and sorted."""
        started = time.perf_counter()
        received = self._send_and_receive(phase, [message for _, message in asked])
        replies = Replies(phase, bytes_down=sum(_size(message) for _, message in asked))
        for member, message in sorted(asked, key=lambda pair: pair[0]):
            reply = received.get(message.metadata.message_id)
            if reply is None:
                replies.silent.add(member.name)
            _judge(replies, member, reply, refusal)
        replies.seconds = time.perf_counter() - started
        return replies

    def _send_and_receive(self, phase: str, messages: list[Message]) -> dict[str, Message]:
        for message in messages:
            message.metadata.ttl = self.timeout
        self.tell(phase, 0, len(messages))
        waiting = set(self.grid.push_messages(messages)) - {None}
        received: dict[str, Message] = {}
        deadline = time.monotonic() + self.timeout
        while waiting and time.monotonic() < deadline:
            for reply in self.grid.pull_messages(waiting):
                _check_worker(phase, reply)
                received[reply.metadata.reply_to_message_id] = reply
            if waiting & received.keys():
                self.tell(phase, len(received), len(messages))
            waiting -= received.keys()
            if waiting:
                time.sleep(self.pause)
        return received


def _judge(replies: Replies, member: Member, reply: Message | None, refusal: Refusal) -> None:
    reason = _reason(reply, member)
    if reply is not None and reason is None:
        reason = refusal(reply)
    if reply is None or reason is not None:
        name = _name(reply, member)
        replies.refused[name] = reason or ""
        log.warning("%s: %s: %s", replies.phase, name, reason)
    else:
        replies.good[member] = reply
        replies.bytes_up += _size(reply)


def in_simulation(grid: Grid) -> bool:
    """Return whether the nodes behind ``grid`` are played by this machine."""
    return isinstance(grid, InMemoryGrid) or bool(getattr(grid, "simulated", False))


def _check_worker(phase: str, reply: Message) -> None:
    if reply.has_error() and any(name in str(reply.error.reason) for name in _DEAD):
        raise FederationError(
            f"{phase}: a Ray worker died (often for lack of memory: try fewer federation.workers); "
            "it is never replaced, so the run ends here and can be resumed"
        )


def _reason(reply: Message | None, member: Member) -> str | None:
    if reply is None:
        return "no reply in time"
    if reply.has_error():
        return " ".join(str(reply.error.reason).split())[:300] or "the node is gone"
    error = reply.content.config_records.get(ERROR)
    if error is not None:
        return str(error.get("message", "failed"))
    if member.client >= 0 and metrics_of(reply).get("partition") != member.client:
        return f"the reply is not from client {member.client}"
    return None


def _name(reply: Message | None, member: Member) -> str:
    if reply is None or reply.has_error() or member.name != placeholder(member.client):
        return member.name
    record = reply.content.config_records.get(ERROR) or reply.content.config_records.get(INFO)
    return str((record or ConfigRecord()).get("name", member.name))


def placeholder(client: int) -> str:
    """Return the name of a client that has not yet said its own.

    >>> placeholder(3)
    'client 3'
    """
    return f"client {client}"


def _size(message: Message) -> int:
    content = message.content
    tensors = sum(record.count_bytes() for record in content.array_records.values())
    return tensors + size(content)


def base_config(experiment: str, code: str, number: int) -> ConfigRecord:
    """Return what every instruction carries: the experiment as JSON, the code's hash, the round."""
    return ConfigRecord({"experiment": experiment, "fingerprint": code, "round": number})
