"""One exchange with the clients: ask, wait, judge each reply, keep a quorum."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid
from flwr.superlink.grid import InMemoryGrid

from bayfed.errors import DivergedError, FederationError
from server.inbox import Answer, Inbox
from server.verdict import Refusal, said, verdict
from strategies.secure.steps import size
from strategies.wire import ERROR, INFO, Member, config_of, metrics_of

log = logging.getLogger("bayfed.server")
Listener = Callable[[str, int, int], None]
"""Is told the phase, how many have answered, and of how many."""
Keeper = Callable[[Message], object]
"""Is given every reply of a client that is only played, and takes out what it is to keep."""
SECONDS_SIMULATED, SECONDS_NETWORK = 0.01, 0.1
"""Between two looks for replies."""
LONGER, LONGEST = 0.05, 0.5
"""On a network: who has waited for long may wait so much of it longer, up to so many seconds."""
ENDLESS = (
    "holds NaN or Inf",
    "not finite",
    "not positive definite",
    "out of range",
    "federation.largest_loss",
)
"""How it is said of a client that its numbers have left their range."""
_DEAD = ("ActorDiedError", "RayActorError", "ActorUnavailableError")


@dataclass(frozen=True)
class Pending:
    """A message of an earlier round to which no reply has come so far.

    Attributes:
        member: Who was asked.
        number: The round.
        expires: When it is given up, on the exchange's clock.
    """

    member: Member
    number: int
    expires: float


@dataclass(frozen=True)
class Clock:
    """Time, and how to let it pass; another one plays a federation faster than it runs."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep


@dataclass
class Replies:
    """What came back from the members that were asked, sorted by client.

    Attributes:
        phase: what was asked, for messages to the user.
        good: the usable replies, in the order of the clients.
        refused: why each other client's reply is missing.
        silent: the names of those who sent no reply at all.
        gone: the names of those who gave no answer of their own, the silent ones among them.
        late: usable replies to messages of earlier rounds, with the rounds.
        seconds: wall time of the exchange.
        bytes_down: bytes of tensors sent, and of what secure sums need beside them.
        bytes_up: bytes received, likewise.
        means: means over the clients, where only their sum is known.
    """

    phase: str
    good: dict[Member, Message] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    late: dict[Member, tuple[int, Message]] = field(default_factory=dict)
    seconds: float = 0.0
    bytes_down: int = 0
    bytes_up: int = 0
    means: dict[str, float] = field(default_factory=dict)

    def refuse(self, member: Member, reason: str) -> None:
        """Take a reply back out of the usable ones, late ones included."""
        if self.good.pop(member, None) is None:
            del self.late[member]
        self.refused[member.name] = reason
        log.warning("%s: %s: %s", self.phase, member.name, reason)

    def compute(self) -> dict[str, float]:
        """Return the seconds that each client says it computed."""
        return {m.name: metrics_of(r).get("seconds", 0.0) for m, r in self.good.items()}

    def require(self, quorum: float) -> None:
        """Check that enough clients answered well.

        Raises:
            FederationError: fewer than ``quorum`` times the asked, or nobody; a DivergedError
                where the numbers of most of the others have left their range.
        """
        answered = len(self.good) + len(self.late)
        asked = answered + len(self.refused)
        self._check(answered, max(1, math.ceil(quorum * asked)))

    def need(self, needed: int) -> None:
        """Check that at least ``needed`` clients answered well, and in time.

        Raises:
            FederationError: they did not.
        """
        self._check(len(self.good), needed)

    def _check(self, answered: int, needed: int) -> None:
        if answered < needed:
            asked = len(self.good) + len(self.late) + len(self.refused)
            reasons = "; ".join(f"{name}: {why}" for name, why in self._worst())
            raise self._kind()(
                f"{self.phase}: {answered} of {asked} clients answered, "
                f"{needed} are needed ({reasons})"
            )

    def _kind(self) -> type[FederationError]:
        """Return what the loss of the quorum is, by what most of the missing say."""
        said = self.refused.values()
        endless = sum(any(word in why for word in ENDLESS) for why in said)
        return DivergedError if 2 * endless > len(said) else FederationError

    def _worst(self, shown: int = 3) -> list[tuple[str, str]]:
        named = sorted(self.refused.items())
        rest = len(named) - shown
        return named[:shown] + ([("others", str(rest))] if rest > 0 else [])


class Exchange:
    """Sends instructions over a Grid and waits for the replies.

    Flower's own ``send_and_receive`` looks every 0.1 s in a simulation and every 3 s on
    a network; this one looks more often, and ends at once when a worker has died.
    """

    def __init__(
        self,
        grid: Grid,
        timeout: float,
        tell: Listener = lambda *_: None,
        keep: Keeper = lambda _: None,
    ) -> None:
        self.grid, self.timeout, self.tell, self.keep = grid, timeout, tell, keep
        self.clock: Clock = getattr(grid, "clock", Clock())
        self.simulated = in_simulation(grid)
        self.pause = SECONDS_SIMULATED if self.simulated else SECONDS_NETWORK
        self._pending: dict[str, Pending] = {}
        self._late: list[tuple[Pending, Answer]] = []
        self._inbox = Inbox(grid, together=self.simulated)

    @property
    def busy(self) -> set[int]:
        """The clients that still work on a message of an earlier round."""
        return {pending.member.client for pending in self._pending.values()}

    def ask(
        self,
        phase: str,
        asked: Sequence[tuple[Member, Message]],
        refusal: Refusal = lambda _: None,
        patience: float | None = None,
    ) -> Replies:
        """Send one message to each member and return their replies, judged and sorted.

        What comes after ``patience`` seconds, or the timeout, is lost.
        """
        started = self.clock.now()
        limit = self.timeout if patience is None else patience
        received, _ = self._send_and_receive(phase, [m for _, m in asked], limit)
        return self._judged(phase, asked, received, refusal, started)

    def ask_until(
        self,
        deadline: float,
        number: int,
        asked: Sequence[tuple[Member, Message]],
        refusal: Callable[[int, Message], str | None],
    ) -> Replies:
        """Ask for updates, and wait no longer than ``deadline`` seconds.

        A reply that comes later, within the timeout, is among the late ones of a later call.
        """
        phase, started = f"round {number}", self.clock.now()
        received, waiting = self._send_and_receive(phase, [m for _, m in asked], deadline)
        replies = self._judged(phase, asked, received, partial(refusal, number), started)
        now = self.clock.now()
        given_up = {key: p for key, p in self._pending.items() if p.expires <= now}
        replies.gone |= {pending.member.name for pending in given_up.values()}
        still = {
            message.metadata.message_id: Pending(member, number, now + self.timeout - deadline)
            for member, message in asked
            if message.metadata.message_id in waiting and deadline < self.timeout
        }
        replies.gone -= {pending.member.name for pending in still.values()}
        self._pending = {k: p for k, p in self._pending.items() if k not in given_up} | still
        for pending, reply in self._late:
            reason = verdict(reply, pending.member, partial(refusal, pending.number))
            if reason is None and isinstance(reply, Message):
                replies.late[pending.member] = (pending.number, reply)
                replies.bytes_up += _size(reply)
            else:
                replies.refused[pending.member.name] = reason or ""
        self._late = []
        return replies

    def _judged(
        self,
        phase: str,
        asked: Sequence[tuple[Member, Message]],
        received: Mapping[str, Answer],
        refusal: Refusal,
        started: float,
    ) -> Replies:
        replies = Replies(phase, bytes_down=sum(_size(message) for _, message in asked))
        for member, message in sorted(asked, key=lambda pair: pair[0]):
            reply = received.get(message.metadata.message_id)
            if reply is None:
                replies.silent.add(member.name)
            if reply is None or (isinstance(reply, Message) and reply.has_error()):
                replies.gone.add(member.name)
            _judge(replies, member, reply, refusal)
        replies.seconds = self.clock.now() - started
        return replies

    def _send_and_receive(
        self, phase: str, messages: list[Message], patience: float
    ) -> tuple[dict[str, Answer], set[str]]:
        """Return the replies by the message they answer, and the messages without one."""
        for message in messages:
            message.metadata.ttl = self.timeout
        self.tell(phase, 0, len(messages))
        waiting = set(self.grid.push_messages(messages)) - {None}
        received: dict[str, Answer] = {}
        began, left = self.clock.now(), patience
        while self._is_worth_waiting(waiting, bool(messages)):
            for answered, reply in self._inbox.look(waiting | self._pending.keys()):
                if self.simulated:
                    _check_worker(phase, reply)
                self._receive(answered, reply, received)
            if waiting & received.keys():
                self.tell(phase, len(received), len(messages))
            waiting -= received.keys()
            if left <= 0:  # what came during the last wait has been looked for
                break
            if self._is_worth_waiting(waiting, bool(messages)):
                self._rest(self.clock.now() - began, left)
            left = began + patience - self.clock.now()
        return received, waiting

    def _rest(self, waited: float, left: float) -> None:
        """Wait until the next look, but not beyond the end."""
        longer = 0.0 if self.simulated else min(LONGEST, LONGER * waited)
        pause = max(self.pause, longer)
        self.clock.sleep(max(0.0, min(pause, left)))

    def _is_worth_waiting(self, waiting: set[str], asked: bool) -> bool:
        """Tell whether a reply is to come; where all are still busy, any of theirs will do."""
        return bool(waiting) or (not asked and bool(self._pending) and not self._late)

    def _receive(self, answered: str, reply: Answer, received: dict[str, Answer]) -> None:
        if self.simulated and isinstance(reply, Message) and not reply.has_error():
            self.keep(reply)
        pending = self._pending.pop(answered, None)
        if pending is None:
            received[answered] = reply
        else:
            self._late.append((pending, reply))


def _judge(replies: Replies, member: Member, answer: Answer | None, refusal: Refusal) -> None:
    reason = verdict(answer, member, refusal)
    if reason is None and isinstance(answer, Message):
        replies.good[member] = answer
        replies.bytes_up += _size(answer)
        return
    name = _name(answer, member)
    replies.refused[name] = reason or ""
    log.warning("%s: %s: %s", replies.phase, name, reason)


def in_simulation(grid: Grid) -> bool:
    """Return whether the nodes behind ``grid`` are played by this machine."""
    return isinstance(grid, InMemoryGrid) or bool(getattr(grid, "simulated", False))


def _check_worker(phase: str, reply: Answer) -> None:
    raised = reply.error.reason if isinstance(reply, Message) and reply.has_error() else ""
    if any(name in str(raised) for name in _DEAD):
        raise FederationError(
            f"{phase}: a Ray worker died (often for lack of memory: try fewer federation.workers); "
            "it is never replaced, so the run ends here and can be resumed"
        )


def _name(answer: Answer | None, member: Member) -> str:
    unnamed = member.name == placeholder(member.client)
    if not unnamed or not isinstance(answer, Message) or answer.has_error():
        return member.name
    record = config_of(answer, ERROR) or config_of(answer, INFO)
    return said(str(record.get("name", member.name)))


def placeholder(client: int) -> str:
    """Return the name of a client that has not yet said its own.

    >>> placeholder(3)
    'client 3'
    """
    return f"client {client}"


def _size(message: Message) -> int:
    content = message.content
    tensors = sum(r.count_bytes() for r in content.values() if isinstance(r, ArrayRecord))
    return tensors + size(content)


def base_config(experiment: str, code: str, number: int, run: str = "") -> ConfigRecord:
    """Return what every instruction carries.

    Args:
        experiment: As JSON.
        code: The hash of the code.
        number: Of the round.
        run: What tells this run from others to nodes that remember it.
    """
    words = ConfigRecord({"experiment": experiment, "fingerprint": code, "round": number})
    if run:
        words["run"] = run
    return words
