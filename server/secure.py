"""Sums over the clients of which the server learns nothing but the sum."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from flwr.app import ConfigRecord, Message, RecordDict

from bayfed.config import Federation
from bayfed.errors import FederationError
from server.exchange import Exchange, Replies
from server.verdict import Refusal
from strategies.secure import server
from strategies.secure.client import UNOPENED
from strategies.secure.fixed import Bounded
from strategies.secure.keys import is_public
from strategies.secure.payload import Coding, Layout, Summand, of_record
from strategies.secure.records import (
    SMALLEST,
    Attempt,
    Delivered,
    Following,
    Form,
    Hello,
    Offer,
    Revealed,
    Tags,
)
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
"""Attempts at a sum."""
Found = TypeVar("Found", bound=Form)


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
    exchanges: list[Replies]


@dataclass(frozen=True)
class _Begun:
    """An attempt whose shares were handed out while the sum before was unmasked."""

    attempt: Attempt
    offers: dict[int, Offer]


class TooFewError(FederationError):
    """An attempt has lost too many clients.

    Attributes:
        spoilers: Those whose fault it is, and what they have done.
    """

    def __init__(self, message: str, spoilers: Mapping[int, str]) -> None:
        super().__init__(message)
        self.spoilers = spoilers


class SecureSums:
    """Adds up what members answer, attempt by attempt.

    Args:
        exchange: With the members.
        settings: Of the federation, with ``secure`` set.
    """

    def __init__(self, exchange: Exchange, settings: Federation) -> None:
        self._exchange, self._quorum = exchange, settings.quorum
        self._patience = settings.deadline or settings.timeout
        secure = settings.secure
        self._grid = Bounded(secure.clip, secure.bits) if secure else Bounded(1.0, 8)
        self._run, self._number = os.urandom(16), 0
        self._keys: dict[int, bytes] = {}
        self._strangers: dict[int, str] = {}
        self._spoilers: dict[int, str] = {}
        self._before: dict[int, bytes] = {}
        self._begun: _Begun | None = None

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
        exchanges = self._introduce([member for member, _ in asked], config)
        tries = TRIES
        while True:
            try:
                return self._once(name, asked, config, exchanges)
            except TooFewError as error:
                # Whose fault it is takes no part in the next one, which costs no try.
                self._shut_out(error.spoilers)
                tries -= not error.spoilers
                if not tries:
                    raise
                log.warning("%s; tried once more", error)

    def _shut_out(self, spoilers: Mapping[int, str]) -> None:
        for client, reason in spoilers.items():
            self._keys.pop(client, None)
            self._strangers[client] = self._spoilers[client] = reason

    def _once(
        self,
        name: str,
        asked: Sequence[tuple[Member, Message]],
        config: ConfigRecord,
        exchanges: list[Replies],
    ) -> Summed:
        known = [(member, message) for member, message in asked if member.client in self._keys]
        strangers = {
            m.name: self._strangers.get(m.client, "no public key")
            for m, _ in asked
            if m.client not in self._keys
        }
        Replies(name, dict(known), strangers).require(self._quorum)
        members = [member for member, _ in known]
        begun = self._take_begun(members)
        attempt = self._next(members) if begun is None else begun.attempt
        coding = Coding(self._grid, len(attempt.keys))
        ask = partial(self._exchange.ask, patience=self._patience)
        trial = _Trial(name, attempt, coding, ask, config, exchanges)
        trial.share(members, begun)
        replies = trial.collect(known)
        replies.refused |= strangers
        trial.confirm()
        total, self._begun = trial.unmask(self._following(attempt, trial.present))
        return Summed(total, replies, exchanges)

    def _take_begun(self, members: Sequence[Member]) -> _Begun | None:
        """Return the attempt that has begun, if it is one of just these members."""
        begun, self._begun = self._begun, None
        keys = {member.client: self._keys[member.client] for member in members}
        if begun is None or begun.attempt.keys != keys or begun.offers.keys() != keys.keys():
            return None
        return begun

    def _following(self, attempt: Attempt, present: Sequence[Member]) -> Attempt | None:
        """Return the next attempt, where the last two were of one cohort: it will be so again."""
        usual, self._before = self._before == attempt.keys, attempt.keys
        return self._next(present) if usual and len(present) >= SMALLEST else None

    def _introduce(self, members: Sequence[Member], config: ConfigRecord) -> list[Replies]:
        """Ask those of the members for their public keys who have not told them.

        Raises:
            FederationError: nodes are shared by clients that are simulated.
        """
        nodes = len({member.node for member in members})
        if self._exchange.simulated and nodes < len(members):
            raise FederationError(
                f"federation.secure: {nodes} nodes simulate {len(members)} clients; "
                "a node for each is needed (num-supernodes)"
            )
        asked = [
            (member, instruction(member, KEYS, {}, config))
            for member in members
            if member.client not in self._keys and member.client not in self._spoilers
        ]
        if not asked:
            return []
        replies = self._exchange.ask("public keys", asked, _checked(_hello_refusal), self._patience)
        for member, reply in sorted(replies.good.items()):
            public = of_content(reply.content, Hello).public
            if public in self._keys.values():
                replies.refuse(member, "its public key is that of another client")
            else:
                self._keys[member.client] = public
        self._strangers = self._spoilers | {
            member.client: replies.refused.get(member.name, "") for member, _ in asked
        }
        hellos = _forms(replies, Hello)
        self._number = max([self._number, *(hello.latest for hello in hellos.values())])
        return [replies]

    def _next(self, members: Sequence[Member]) -> Attempt:
        self._number += 1
        size = len(members)
        threshold = max(size // 2 + 1, math.ceil(self._quorum * size))
        keys = {member.client: self._keys[member.client] for member in members}
        attempt = Attempt(self._run, self._number, threshold, keys)
        attempt.check()
        return attempt


class _Trial:
    """One attempt, step by step; each needs as many clients as the threshold says."""

    def __init__(
        self,
        name: str,
        attempt: Attempt,
        coding: Coding,
        ask: Callable[..., Replies],
        config: ConfigRecord,
        exchanges: list[Replies],
    ) -> None:
        self._name, self._attempt = name, attempt
        self._coding, self._ask = coding, ask
        self._config, self._exchanges = config, exchanges
        self._lost = Replies(name)
        self.present: list[Member] = []
        self._offers: dict[int, Offer] = {}
        self._blocks: dict[int, dict[Layout, Bytes]] = {}
        self._tags: dict[int, Tags] = {}
        self._confirmed: dict[int, Tags] = {}

    def share(self, members: Sequence[Member], begun: _Begun | None) -> None:
        """Have the members hand out shares of their secrets, if they have not."""
        self.present = list(members)
        if begun is not None:
            self._offers = begun.offers
            return
        self._lost = self._query(SHARES, "shares", _offering(self._attempt))
        self._offers = _forms(self._lost, Offer)

    def collect(self, asked: Sequence[tuple[Member, Message]]) -> Replies:
        """Have those who shared send their vectors, and return their replies."""
        messages = [
            (member, _with(message, to_content(self._attempt, self._mail(member))))
            for member, message in asked
            if member.client in self._offers
        ]
        replies = self._ask(self._name, messages, _checked(self._vector_refusal))
        self._exchanges.append(replies)
        self._blocks = _alike(replies, self._coding)
        self._keep(replies)
        self._tags = _forms(replies, Tags)
        replies.refused |= self._lost.refused
        replies.silent |= self._lost.silent
        replies.gone |= self._lost.gone
        return replies

    def confirm(self) -> None:
        """Where one has dropped out after sharing, have the others agree on who has not."""
        if len(self._blocks) < len(self._offers):
            replies = self._query(CONFIRM, "dropouts", _well_formed(Tags), self._delivered)
            self._confirmed = _forms(replies, Tags)

    def unmask(self, following: Attempt | None) -> tuple[Summand, _Begun | None]:
        """Return the sum, and the ``following`` attempt as those who unmask it begin it.

        Raises:
            FederationError: some client has not kept to the protocol.
        """
        refusal = _checked(
            lambda reply: server.reveal_refusal(self._offers, of_content(reply.content, Revealed))
        )
        forms: list[Callable[[Member], Form]] = [self._delivered, self._agreed, self._mail]
        if following is not None:
            forms.append(lambda _: Following.on(following))
        replies = self._query(UNMASK, "unmasking", refusal, *forms)
        revealed = _forms(replies, Revealed)
        layouts = sorted(next(iter(self._blocks.values())))
        blocks = {c: [found[key] for key in layouts] for c, found in self._blocks.items()}
        rings = [self._coding.ring(layout) for layout in layouts]
        try:
            found = server.unmask(self._attempt, self._offers, blocks, revealed, rings)
        except server.SpoiledError as error:
            raise TooFewError(f"{self._name}: {error}", {error.owner: str(error)}) from error
        total = self._coding.decode(dict(zip(layouts, found, strict=True)), len(self._blocks))
        count = total.exact.pop(COUNT, None)
        if count is None or int(count) != len(self._blocks):
            raise FederationError(f"{self._name}: the masks do not cancel: a client sent others")
        if following is None:
            return total, None
        wrong = _offering(following)
        good = {m.client: reply for m, reply in replies.good.items() if wrong(reply) is None}
        offers = {client: of_content(reply.content, Offer) for client, reply in good.items()}
        return total, _Begun(following, offers)

    def _delivered(self, _: Member) -> Form:
        return Delivered(tuple(sorted(self._blocks)))

    def _agreed(self, member: Member) -> Form:
        return server.agreed(self._tags, self._confirmed, member.client)

    def _mail(self, member: Member) -> Form:
        return server.mailbox(self._offers, member.client)

    def _vector_refusal(self, reply: Message) -> str | None:
        of_record(reply.content.array_records.get(MASKED), self._coding)
        known = of_content(reply.content, Tags).tags.keys() == self._offers.keys()
        return None if known else "a tag for each client who has shared is expected"

    def _query(
        self, kind: str, step: str, refusal: Refusal, *forms: Callable[[Member], Form]
    ) -> Replies:
        """Ask those who are left, and keep those who answer well."""
        asked = []
        for member in self.present:
            content = to_content(self._attempt, *(form(member) for form in forms))
            asked.append((member, _with(instruction(member, kind, {}, self._config), content)))
        replies = self._ask(f"{self._name}: {step}", asked, refusal)
        self._exchanges.append(replies)
        self._keep(replies)
        return replies

    def _keep(self, replies: Replies) -> None:
        try:
            replies.need(self._attempt.threshold)
        except FederationError as error:
            raise TooFewError(str(error), _accused(self._attempt, replies)) from error
        self.present = list(replies.good)


def _accused(attempt: Attempt, replies: Replies) -> dict[int, str]:
    """Return whose shares so many could not open that the attempt was void, and never one alone."""
    said = replies.refused.values()
    times = {client: sum(UNOPENED.format(client) in why for why in said) for client in attempt.keys}
    enough = max(2, len(attempt.keys) - attempt.threshold + 1)
    return {client: UNOPENED.format(client) for client, n in times.items() if n >= enough}


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


def _offering(attempt: Attempt) -> Refusal:
    return _checked(lambda reply: server.offer_refusal(attempt, of_content(reply.content, Offer)))


def _well_formed(form: type[Form]) -> Refusal:
    def check(reply: Message) -> None:
        of_content(reply.content, form)

    return _checked(check)


def _hello_refusal(reply: Message) -> str | None:
    hello = of_content(reply.content, Hello)
    if not is_public(hello.public):
        return "its public key is none"
    # Attempts are counted, so that no honest number comes near this one.
    sound = 0 <= hello.latest < time.time_ns()
    return None if sound else f"{hello.latest} is no number of an attempt"


def _forms(replies: Replies, form: type[Found]) -> dict[int, Found]:
    return {m.client: of_content(reply.content, form) for m, reply in replies.good.items()}
