"""Who takes part: what clients say of themselves, and the sample of a round."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flwr.app import ConfigRecord, Message

from bayfed.config.updates import Defence
from bayfed.errors import ConfigError, FederationError, ProtocolError
from bayfed.seeds import stream
from server.exchange import Exchange, Replies, placeholder
from strategies.rules import fewest
from strategies.wire import INFO, Member, config_of, instruction, metrics_of

OPENING = "opening the data"
MAX_NAME, MAX_NAMES = 100, 1000
"""Longest name, and how many held-out names a client may know."""


def enrol_simulated(
    exchange: Exchange, config: ConfigRecord, clients: int, quorum: float
) -> list[Member]:
    """Return all members of a simulation, spread over the nodes, after each has opened its data.

    Raises:
        FederationError: no node is there in time, or too few clients open their data.
    """
    nodes = _nodes(exchange, clients)
    asked = [Member(c, placeholder(c), nodes[c % len(nodes)]) for c in range(clients)]
    replies = described(exchange, config, asked)
    replies.require(quorum)
    return sorted(member_of(member, reply) for member, reply in replies.good.items())


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


def check_rule(defence: Defence, drawn: int) -> None:
    """Check that a round has clients enough for what the rule is to bear.

    >>> check_rule(Defence(rule="trimmed_mean", hostile=2), 4)
    Traceback (most recent call last):
    bayfed.errors.ConfigError: federation.defence.hostile: trimmed_mean bears 2 of 5 clients or ...

    Raises:
        ConfigError: it has not.
    """
    if 0 < drawn < (needed := fewest(defence)):
        raise ConfigError(
            f"federation.defence.hostile: {defence.rule} bears {defence.hostile} of {needed} "
            f"clients or more, a round has {drawn}"
        )


def described(
    exchange: Exchange,
    config: ConfigRecord,
    asked: Sequence[Member],
    patience: float | None = None,
) -> Replies:
    """Return what those who are asked say of themselves."""
    messages = [(member, instruction(member, "query.describe", {}, config)) for member in asked]
    return exchange.ask(OPENING, messages, _refusal, patience)


def member_of(asked: Member, reply: Message) -> Member:
    """Return the member that a reply describes."""
    info = config_of(reply, INFO)
    held_out = info.get("held_out", [])
    names = tuple(map(str, held_out))[:MAX_NAMES] if isinstance(held_out, list) else ()
    name = str(info["name"])[:MAX_NAME].replace("/", "_")  # it names tensors in a checkpoint
    client, trains = int(metrics_of(reply)["partition"]), bool(info.get("trains", True))
    initial = str(info.get("initial", ""))[:64]
    return Member(client, name, asked.node, trains, names, initial)


def _refusal(reply: Message) -> str | None:
    """Return why a description must not be believed, or ``None``."""
    name = config_of(reply, INFO).get("name")
    client = metrics_of(reply).get("partition", -1)
    named = isinstance(name, str) and bool(name.strip()) and name.isprintable()
    numbered = isinstance(client, int) and client >= 0
    return None if named and numbered else "it does not say who it is"


def _nodes(exchange: Exchange, wanted: int) -> list[int]:
    # Flower registers the nodes while the server is already running.
    deadline, nodes = exchange.clock.now() + exchange.timeout, list(exchange.grid.get_node_ids())
    grace = exchange.clock.now() + 1.0
    while not nodes or (len(nodes) < wanted and exchange.clock.now() < grace):
        if exchange.clock.now() > deadline:
            raise FederationError(f"no node to simulate on after {exchange.timeout:g} s")
        exchange.clock.sleep(exchange.pause)
        nodes = list(exchange.grid.get_node_ids())
    return sorted(nodes)
