"""Who is let in on a network, where nodes come and go and say what they like."""

from __future__ import annotations

import itertools
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flwr.app import ConfigRecord, Message

from bayfed.errors import FederationError
from server.exchange import Exchange, Replies
from server.plants import Plants
from server.roster import OPENING, described, member_of
from strategies.wire import INFO, Member, config_of

log = logging.getLogger("bayfed.server")
NAMES = "plants"
"""What the history calls the names by number."""
MOST = 100_000
"""Plants that a node may speak of."""
LONGEST = 8
"""Rounds for which a node that was turned away is left alone at most."""


class Admission:
    """The members of a run, each a plant with a number and a name that stay its own.

    With a list of plants the node decides who a plant is, and the list how many there are. Without
    one the nodes say so: of two with one number the first is it, while it is there; how many there
    are is what most of them say. Either way a plant names itself once, by its sites. Where another
    one has a site of that name, its number is added to it, or what the list calls it.

    Args:
        exchange: With the nodes.
        plants: The list.
        fits: Why a plant cannot take part under its name, ``None`` where it can.
        patience: Seconds that a run which has begun waits for a node to say who it is.
        line: The last line of the history, where a run goes on.

    Attributes:
        refused: Who was turned away since this was last emptied, and why.
    """

    def __init__(
        self,
        exchange: Exchange,
        plants: Plants | None = None,
        fits: Callable[[Member], str | None] = lambda _: None,
        patience: float | None = None,
        line: Mapping[str, Any] | None = None,
    ) -> None:
        self._exchange, self._plants, self._fits = exchange, plants, fits
        self._patience = patience
        self._names = {int(c): str(name) for c, name in ((line or {}).get(NAMES) or {}).items()}
        self._found: dict[int, Member] = {}
        self._first: dict[int, int] = {}
        self._turned: dict[int, tuple[int, int]] = {}
        self._votes: Counter[int] = Counter()
        self.refused: dict[str, str] = {}

    def enrol(self, config: ConfigRecord, quorum: float) -> list[Member]:
        """Return all members, sorted by number, after each has opened its data.

        Raises:
            FederationError: too few nodes are there in time, or too few open their data.
        """
        asked, deadline = Replies(OPENING), self._exchange.clock.now() + self._exchange.timeout
        while True:
            there = len(asked.good) + len(asked.refused)
            if fresh := self._fresh(set(self._exchange.grid.get_node_ids()), 0):
                self._ask(config, fresh, 0, asked)
            elif there >= self._expected() or self._exchange.clock.now() > deadline:
                break
            else:
                self._exchange.clock.sleep(self._exchange.pause)
        self._settle(0, asked)
        there, all_ = len(asked.good) + len(asked.refused), self._count()
        if there < all_ and len(asked.good) < math.ceil(quorum * all_):
            waited = self._exchange.clock.now() - deadline + self._exchange.timeout
            joined = "" if self._plants is None else f", {len(self._plants.by_node)} have joined"
            raise FederationError(
                f"{there} of {all_} nodes are connected after {waited:.3g} s{joined}; "
                f"federation.quorum is {quorum:g}"
            )
        asked.require(quorum)
        return self._members()

    def refresh(self, config: ConfigRecord, number: int) -> tuple[list[Member], set[int]]:
        """Return the members as they are before a round, and the numbers whose node is away.

        A plant whose node was started anew comes back, where no list names nodes under another
        identity; one that was late joins. Both are asked what they hold.
        """
        here = set(self._exchange.grid.get_node_ids())
        for client, first in self._first.items():
            if first in here:  # whoever sat in its place meanwhile
                self._found[client] = replace(self._found[client], node=first)
        if fresh := self._fresh(here, number):
            asked = Replies(OPENING)
            self._ask(config, fresh, number, asked, here, self._patience)
            self._settle(number, asked)
        members = self._members()
        return members, {member.client for member in members if member.node not in here}

    def line(self) -> dict[str, Any]:
        """Return what the history keeps, and goes on from."""
        return {NAMES: {str(client): name for client, name in sorted(self._names.items())}}

    def _members(self) -> list[Member]:
        named = (replace(m, name=self._names[client]) for client, m in self._found.items())
        return sorted(named)

    def _expected(self) -> int:
        """Return how many plants are waited for."""
        if self._plants is not None:
            return max(1, len(self._plants.by_node))
        # Of numbers that are spoken of equally often, the one that is soonest there.
        return max(self._votes, key=lambda said: (self._votes[said], -said), default=1)

    def _count(self) -> int:
        """Return how many plants there are to be."""
        return max(self._expected(), 0 if self._plants is None else self._plants.count)

    def _fresh(self, here: set[int], number: int) -> list[int]:
        """Return the nodes that are to be asked who they are."""
        known = {member.node for member in self._found.values()}
        fresh = [n for n in sorted(here - known) if self._turned.get(n, (0, number))[1] <= number]
        if self._plants is None:
            return fresh
        for node in fresh:
            if node not in self._plants.by_node:
                self._turn(node, f"node {node}", "it is not on the list of plants", number)
        return [node for node in fresh if node in self._plants.by_node]

    def _ask(
        self,
        config: ConfigRecord,
        nodes: Sequence[int],
        number: int,
        asked: Replies,
        here: Iterable[int] = (),
        patience: float | None = None,
    ) -> None:
        """Ask nodes who they are, and add to ``asked`` those that are, or should be, a plant."""
        replies = described(self._exchange, config, [self._stranger(n) for n in nodes], patience)
        for node in nodes:
            member = self._stranger(node)
            reply = replies.good.get(member)
            if reply is None:
                asked.refused[member.name] = replies.refused.get(member.name, "")
                self._turn(node, member.name, asked.refused[member.name], number)
                continue
            self._votes.update(_stated(reply))
            plant = member_of(member, reply)
            if (other := self._found.get(plant.client)) and not self._is_free(other, here):
                reason = f"another node has the number {plant.client}"
                self._turn(node, member.name, reason, number)
                continue
            log.info("%s is here with node %d", plant.name, node)
            self._found[plant.client] = plant
            self._first.setdefault(plant.client, node)
            asked.good[plant] = reply

    def _stranger(self, node: int) -> Member:
        if self._plants is None:
            return Member(-1, f"node {node}", node)
        plant = self._plants.by_node[node]
        return Member(plant.number, plant.name, node)

    def _is_free(self, other: Member, here: Iterable[int]) -> bool:
        """Tell whether the place of another may be taken; before a run begins none is."""
        present = set(here)
        return bool(present) and other.node not in present

    def _settle(self, number: int, asked: Replies) -> None:
        """Give newcomers their names, and turn those away who cannot take part under theirs."""
        self._label()
        for plant in list(asked.good):
            name = self._names[plant.client]
            if reason := self._fits(replace(plant, name=name)):
                del asked.good[plant], self._found[plant.client], self._first[plant.client]
                asked.refused[name] = reason
                self._turn(plant.node, name, reason, number)

    def _label(self) -> None:
        fresh = {c: m.name for c, m in sorted(self._found.items()) if c not in self._names}
        times = Counter(site for name in fresh.values() for site in set(_sites(name)))
        twice = {site for site in times if times[site] > 1}
        for client, name in fresh.items():
            taken = twice | {site for known in self._names.values() for site in _sites(known)}
            who = self._called(client)
            others = (f" ({who}.{i})" for i in itertools.count(2))
            labels = itertools.chain(["", f" ({who})"], others)
            found = (
                "+".join(f"{site}{label}" if site in taken else site for site in _sites(name))
                for label in labels
            )
            self._names[client] = next(one for one in found if not taken & {*_sites(one)})

    def _called(self, client: int) -> str:
        known = {} if self._plants is None else self._plants.by_node
        return next((p.name for p in known.values() if p.number == client), str(client))

    def _turn(self, node: int, name: str, reason: str, number: int) -> None:
        times = self._turned.get(node, (0, 0))[0] + 1
        self._turned[node] = times, number + min(LONGEST, 2 ** (times - 1))
        self.refused[name] = f"{OPENING}: {reason}"
        log.warning("%s is turned away: %s", name, reason)


def _sites(name: str) -> list[str]:
    """Return the sites by which a plant names itself: none of them may stand for another one's."""
    return name.split("+")


def _stated(reply: Message) -> list[int]:
    """Return how many plants there are, in the words of a node."""
    stated = config_of(reply, INFO).get("partitions", 0)
    return [stated] if isinstance(stated, int) and 1 <= stated <= MOST else []
