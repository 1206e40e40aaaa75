"""Who takes part: the members of a run, and the sample of a round."""

from __future__ import annotations

import itertools
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from flwr.app import ConfigRecord, Message

from bayfed.errors import FederationError, ProtocolError
from bayfed.seeds import stream
from server.exchange import Exchange, Replies, in_simulation, placeholder
from strategies.wire import INFO, Member, config_of, instruction, metrics_of

log = logging.getLogger("bayfed.server")


def enrol(
    exchange: Exchange, config: ConfigRecord, clients: Callable[[], int], quorum: float
) -> list[Member]:
    """Return all members, sorted by client, after each has opened its data.

    In a simulation ``clients()`` members are spread over the nodes, however many Flower has
    been told to simulate. On a network every node is one member and says in its
    ``num-partitions`` how many there are.

    Raises:
        FederationError: too few nodes are there in time, or too few open their data.
    """
    if in_simulation(exchange.grid):
        return _enrol_simulated(exchange, config, clients(), quorum)
    return _enrol_network(exchange, config, quorum)


def sample(members: Sequence[Member], fraction: float, seed: int, number: int) -> list[Member]:
    """Return the clients that train in a round, a function of (seed, round) alone.

    >>> members = [Member(c, f"factory{c}", 0) for c in range(4)]
    >>> [m.client for m in sample(members, 0.5, seed=0, number=1)]
    [0, 1]
    """
    training = sorted(member for member in members if member.trains)
    size = max(1, math.ceil(fraction * len(training)))
    chosen = stream(seed, "sampling", number).permutation(len(training))[:size]
    return [training[index] for index in sorted(chosen)] if training else []


def check_held_out(members: Sequence[Member], names: Sequence[str]) -> None:
    """Check what no node can: that each name in ``protocol.holdout`` is known to one of them.

    Raises:
        ProtocolError: it is not, or no member is left to train.
    """
    known = {name for member in members for name in member.held_out}
    for name in names:
        if name not in known:
            raise ProtocolError(f"protocol.holdout: nobody has a site or family called {name!r}")
    if names and not any(member.trains for member in members):
        raise ProtocolError("protocol.holdout: no site is left to train on")


def refresh(
    exchange: Exchange, config: ConfigRecord, members: Sequence[Member]
) -> tuple[list[Member], set[int]]:
    """Return the members as they are now, and the clients whose node is away.

    A plant whose node was started anew comes back under another identity, and one that was late
    joins; both are asked what they hold. In a simulation nothing changes.
    """
    if exchange.simulated:
        return list(members), set()
    here = set(exchange.grid.get_node_ids())
    fresh = sorted(here - {member.node for member in members})
    found = {member.client: member for member in members}
    if fresh:
        replies = _describe(exchange, config, [Member(-1, f"node {n}", n) for n in fresh])
        for member in _members(replies):
            if found.get(member.client, member).node not in here - {member.node}:
                log.info("%s is here with node %d", member.name, member.node)
                found[member.client] = member
    current = _with_own_names(sorted(found.values()))
    return current, {member.client for member in current if member.node not in here}


def _enrol_network(exchange: Exchange, config: ConfigRecord, quorum: float) -> list[Member]:
    tried: set[int] = set()
    members: list[Member] = []
    expected, deadline = 1, exchange.clock.now() + exchange.timeout
    while len(tried) < expected:
        fresh = sorted(set(exchange.grid.get_node_ids()) - tried)
        if exchange.clock.now() > deadline:
            if members and len(members) >= math.ceil(quorum * expected):
                break
            raise FederationError(
                f"{len(tried)} of {expected} nodes are connected after {exchange.timeout:g} s"
            )
        if not fresh:
            exchange.clock.sleep(exchange.pause)
            continue
        tried |= set(fresh)
        replies = _describe(exchange, config, [Member(-1, f"node {n}", n) for n in fresh])
        replies.require(quorum)
        members += _members(replies)
        expected = max([expected, *(_partitions(reply) for reply in replies.good.values())])
    return _with_own_names(_without_twins(sorted(members)))


def _enrol_simulated(
    exchange: Exchange, config: ConfigRecord, clients: int, quorum: float
) -> list[Member]:
    nodes = _simulated_nodes(exchange, clients)
    asked = [Member(c, placeholder(c), nodes[c % len(nodes)]) for c in range(clients)]
    replies = _describe(exchange, config, asked)
    replies.require(quorum)
    return sorted(_members(replies))


def _simulated_nodes(exchange: Exchange, wanted: int) -> list[int]:
    # Flower registers the nodes while the server is already running.
    deadline, nodes = exchange.clock.now() + exchange.timeout, list(exchange.grid.get_node_ids())
    grace = exchange.clock.now() + 1.0
    while not nodes or (len(nodes) < wanted and exchange.clock.now() < grace):
        if exchange.clock.now() > deadline:
            raise FederationError(f"no node to simulate on after {exchange.timeout:g} s")
        exchange.clock.sleep(exchange.pause)
        nodes = list(exchange.grid.get_node_ids())
    return sorted(nodes)


def _describe(exchange: Exchange, config: ConfigRecord, asked: Sequence[Member]) -> Replies:
    messages = [(member, instruction(member, "query.describe", {}, config)) for member in asked]
    return exchange.ask("opening the data", messages, _refusal)


def _refusal(reply: Message) -> str | None:
    """Return why a description must not be believed, or ``None``."""
    name = config_of(reply, INFO).get("name")
    client = metrics_of(reply).get("partition", -1)
    sound = isinstance(name, str) and name.isprintable() and isinstance(client, int)
    return None if sound and client >= 0 else "it does not say who it is"


def _members(replies: Replies) -> list[Member]:
    return [_member(asked, reply) for asked, reply in replies.good.items()]


def _member(asked: Member, reply: Message) -> Member:
    info = reply.content.config_records[INFO]
    client = int(metrics_of(reply)["partition"])
    trains = bool(info.get("trains", True))
    held_out = info.get("held_out", [])
    names = tuple(map(str, held_out)) if isinstance(held_out, list) else ()
    name = str(info["name"])[:100].replace("/", "_")  # it names tensors in a checkpoint
    initial = str(info.get("initial", ""))[:64]
    return Member(client, name, asked.node, trains, names, initial)


def _partitions(reply: Message) -> int:
    stated = reply.content.config_records[INFO].get("partitions", 0)
    return stated if isinstance(stated, int) else 0


def _without_twins(members: Sequence[Member]) -> list[Member]:
    for left, right in itertools.pairwise(members):
        if left.client == right.client:
            raise FederationError(f"two nodes have the partition-id {left.client}")
    return list(members)


def _with_own_names(members: Sequence[Member]) -> list[Member]:
    """Tell plants apart that call their sites alike."""
    twice = {name for name, times in Counter(m.name for m in members).items() if times > 1}
    return [replace(m, name=f"{m.name} ({m.client})") if m.name in twice else m for m in members]
