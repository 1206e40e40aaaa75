"""Sums over the clients of which the server learns nothing but the sum."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, Message, RecordDict

from bayfed.config import Federation
from bayfed.errors import FederationError
from server.exchange import Exchange, Refusal, Replies
from strategies.secure import server
from strategies.secure.fixed import Bounded
from strategies.secure.payload import Coding, Layout, Summand, of_record
from strategies.secure.records import Attempt, Delivered, Form, Hello, Offer, Revealed, Tags
from strategies.secure.ring import Bytes
from strategies.secure.steps import (
    CONFIRM,
    COUNT,
    KEYS,
    MASKED,
    SHARES,
    UNMASK,
    of_content,
    to_content,
)
from strategies.wire import Member, instruction

log = logging.getLogger("bayfed.server")
TRIES = 2
"""Attempts at a sum, each with a cohort of its own."""


@dataclass
class Summed:
    """A sum, and what it took.

    Attributes:
        total: The sum over those who delivered.
        replies: Who delivered, and why the others did not.
        exchanges: All that was sent for it, failed attempts too.
    """

    total: Summand
    replies: Replies
    exchanges: list[Replies] = field(default_factory=list)


class TooFewError(FederationError):
    """An attempt has lost too many clients."""


class SecureSums:
    """Adds up what members answer, attempt by attempt.

    Args:
        exchange: With the members.
        settings: Of the federation, with ``secure`` set.
    """

    def __init__(self, exchange: Exchange, settings: Federation) -> None:
        self._exchange, self._quorum = exchange, settings.quorum
        secure = settings.secure
        self._grid = Bounded(secure.clip, secure.bits) if secure else Bounded(1.0, 8)
        self._run, self._number = os.urandom(16), 0
        self._keys: dict[int, bytes] = {}

    def enrol(self, members: Sequence[Member], config: ConfigRecord) -> None:
        """Ask every member for its public key.

        Raises:
            FederationError: too few have one, or nodes are shared by clients that are simulated.
        """
        nodes = len({member.node for member in members})
        if self._exchange.simulated and nodes < len(members):
            raise FederationError(
                f"federation.secure: {nodes} nodes simulate {len(members)} clients; "
                "a node for each is needed (num-supernodes)"
            )
        asked = [(m, instruction(m, KEYS, {}, config)) for m in members]
        replies = self._exchange.ask("public keys", asked, _hello_refusal)
        replies.require(self._quorum)
        hellos = {m.client: of_content(r.content, Hello) for m, r in replies.good.items()}
        self._keys = {client: hello.public for client, hello in hellos.items()}
        self._number = max(hello.latest for hello in hellos.values())

    def total(
        self, name: str, asked: Sequence[tuple[Member, Message]], config: ConfigRecord
    ) -> Summed:
        """Return the sum of what those who are asked answer.

        Args:
            name: What is summed, for messages to the user.
            asked: The message to each member, which is completed by what the masks need.
            config: Of the instructions that go with it.

        Raises:
            FederationError: too few clients are left, twice.
        """
        exchanges: list[Replies] = []
        for left in reversed(range(TRIES)):
            try:
                return self._attempt(name, asked, config, exchanges)
            except TooFewError as error:
                if not left:
                    raise
                log.warning("%s; tried once more", error)
        raise AssertionError  # not reached

    def _attempt(
        self,
        name: str,
        asked: Sequence[tuple[Member, Message]],
        config: ConfigRecord,
        exchanges: list[Replies],
    ) -> Summed:
        members = [member for member, _ in asked if member.client in self._keys]
        attempt = self._next(members)

        def ask(step: str, messages: Mapping[Member, Message], refusal: Refusal) -> Replies:
            replies = self._exchange.ask(f"{name}: {step}", list(messages.items()), refusal)
            exchanges.append(replies)
            return replies

        def query(
            kind: str, to: Sequence[Member], *forms: Callable[[int], Form]
        ) -> dict[Member, Message]:
            messages = {}
            for member in to:
                message = instruction(member, kind, {}, config)
                content = to_content(attempt, *(form(member.client) for form in forms))
                messages[member] = _with(message, content)
            return messages

        shared = ask("shares", query(SHARES, members), _offer_refusal(attempt))
        _need(shared, attempt.threshold)
        offers = {m.client: of_content(r.content, Offer) for m, r in shared.good.items()}

        def mail(client: int) -> Form:
            return server.mailbox(offers, client)

        coding = Coding(self._grid, len(attempt.keys))
        messages = {
            member: _with(message, to_content(attempt, mail(member.client)))
            for member, message in asked
            if member in shared.good
        }
        replies = ask("vectors", messages, _vector_refusal(coding, offers))
        replies.phase = name
        blocks = _alike(replies, coding)
        _need(replies, attempt.threshold)
        tags = {m.client: of_content(r.content, Tags) for m, r in replies.good.items()}
        delivered, confirmed = Delivered(tuple(sorted(blocks))), dict[int, Tags]()
        present = list(replies.good)
        if len(blocks) < len(offers):
            confirming = query(CONFIRM, present, lambda _: delivered)
            confirms = ask("dropouts", confirming, _form_refusal(Tags))
            _need(confirms, attempt.threshold)
            confirmed = {m.client: of_content(r.content, Tags) for m, r in confirms.good.items()}
            present = list(confirms.good)

        def agreed(client: int) -> Form:
            return server.agreed(tags, confirmed, client)

        unmasking = query(UNMASK, present, lambda _: delivered, agreed, mail)
        opened = ask("unmasking", unmasking, _reveal_refusal(offers))
        _need(opened, attempt.threshold)
        revealed = {m.client: of_content(r.content, Revealed) for m, r in opened.good.items()}
        total = self._unmasked(name, attempt, offers, blocks, revealed, coding)
        for early in (shared,):
            replies.refused |= early.refused
            replies.silent |= early.silent
        return Summed(total, replies, exchanges)

    def _next(self, members: Sequence[Member]) -> Attempt:
        self._number += 1
        size = len(members)
        threshold = max(size // 2 + 1, math.ceil(self._quorum * size))
        keys = {member.client: self._keys[member.client] for member in members}
        attempt = Attempt(self._run, self._number, threshold, keys)
        attempt.check()
        return attempt

    def _unmasked(
        self,
        name: str,
        attempt: Attempt,
        offers: Mapping[int, Offer],
        blocks: Mapping[int, Mapping[Layout, Bytes]],
        revealed: Mapping[int, Revealed],
        coding: Coding,
    ) -> Summand:
        layouts = sorted(next(iter(blocks.values())))
        masked = {client: [found[key] for key in layouts] for client, found in blocks.items()}
        rings = [coding.ring(layout) for layout in layouts]
        found = server.unmask(attempt, offers, masked, revealed, rings)
        total = coding.decode(dict(zip(layouts, found, strict=True)), len(blocks))
        count = total.exact.pop(COUNT, None)
        if count is None or int(count) != len(blocks):
            raise FederationError(
                f"{name}: the masks do not cancel, some client has not kept to it"
            )
        return total


def _need(replies: Replies, number: int) -> None:
    try:
        replies.need(number)
    except FederationError as error:
        raise TooFewError(str(error)) from error


def _with(message: Message, content: RecordDict) -> Message:
    """Return ``message`` anew, with more in it: one that was sent is not sent again."""
    meta = message.metadata
    return Message(RecordDict({**message.content, **content}), meta.dst_node_id, meta.message_type)


def _alike(replies: Replies, coding: Coding) -> dict[int, dict[Layout, Bytes]]:
    """Return the vectors of those that are laid out like most, and refuse the others."""
    blocks = {
        m: of_record(r.content.array_records[MASKED], coding) for m, r in replies.good.items()
    }
    usual = Counter(tuple(sorted(found)) for found in blocks.values()).most_common(1)
    for member, found in blocks.items():
        if tuple(sorted(found)) != usual[0][0]:
            replies.refuse(member, "its vector holds other tensors than those of the others")
    return {member.client: blocks[member] for member in replies.good}


def _checked(check: Callable[[Message], str | None]) -> Refusal:
    def refusal(reply: Message) -> str | None:
        try:
            return check(reply)
        except FederationError as error:
            return str(error)

    return refusal


def _form_refusal(form: type[Form]) -> Refusal:
    def check(reply: Message) -> None:
        of_content(reply.content, form)

    return _checked(check)


def _hello_refusal(reply: Message) -> str | None:
    def check(reply: Message) -> str | None:
        hello = of_content(reply.content, Hello)
        # Attempts are counted, so that no honest number comes near this one.
        sound = 0 <= hello.latest < time.time_ns()
        return None if sound else f"{hello.latest} is no number of an attempt"

    return _checked(check)(reply)


def _offer_refusal(attempt: Attempt) -> Refusal:
    return _checked(lambda reply: server.offer_refusal(attempt, of_content(reply.content, Offer)))


def _vector_refusal(coding: Coding, offers: Mapping[int, Offer]) -> Refusal:
    def check(reply: Message) -> str | None:
        of_record(reply.content.array_records.get(MASKED), coding)
        known = of_content(reply.content, Tags).tags.keys() == offers.keys()
        return None if known else "a tag for each client who has shared is expected"

    return _checked(check)


def _reveal_refusal(offers: Mapping[int, Offer]) -> Refusal:
    return _checked(
        lambda reply: server.reveal_refusal(offers, of_content(reply.content, Revealed))
    )
