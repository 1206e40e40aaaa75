from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from bayfed.errors import FederationError
from experiments.inprocess import InProcessGrid, flower_identity
from server.exchange import Exchange
from server.roster import enrol, refresh, sample
from strategies.wire import INFO, METRICS, Member
from tests.fakes import app


@given(
    st.integers(1, 30),
    st.floats(0.01, 1.0),
    st.integers(0, 9),
    st.integers(0, 9),
    st.randoms(use_true_random=False),
)
def test_a_sample_depends_on_seed_and_round_alone(
    count: int, fraction: float, seed: int, number: int, shuffle: Any
) -> None:
    members = [Member(c, f"site{c}", node=1000 - c, trains=c % 3 != 1) for c in range(count)]
    chosen = sample(members, fraction, seed, number)
    other = [Member(m.client, m.name, m.node + 7, m.trains) for m in members]
    shuffle.shuffle(other)
    assert [m.client for m in sample(other, fraction, seed, number)] == [m.client for m in chosen]
    training = sum(m.trains for m in members)
    assert len(chosen) == max(1, math.ceil(fraction * training))
    assert all(m.trains for m in chosen)
    assert chosen == sorted(chosen)


def test_every_client_has_its_turn() -> None:
    members = [Member(c, f"site{c}", c) for c in range(10)]
    seen = {m.client for number in range(40) for m in sample(members, 0.2, 0, number)}
    assert seen == set(range(10))


def test_nobody_trains_where_all_are_evaluate_only() -> None:
    assert sample([Member(0, "a", 0, trains=False)], 1.0, 0, 1) == []


class Network(InProcessGrid):
    """Real nodes, the later ones of which connect only after a while."""

    simulated = False
    name = ""

    def __init__(self, partitions: list[int], expected: int, late: int = 0) -> None:
        super().__init__(app, len(partitions))
        self.partitions, self.expected, self.late, self.looks = partitions, expected, late, 0

    def get_node_ids(self) -> list[int]:
        self.looks += 1
        nodes = list(self._contexts)
        return nodes if self.looks > 2 else nodes[: len(nodes) - self.late]

    def deliver(self, message: Message) -> Message | None:
        index = list(self._contexts).index(message.metadata.dst_node_id)
        partition = self.partitions[index]
        info = {
            "name": self.name or f"factory{partition}",
            "trains": True,
            "partitions": self.expected,
        }
        content = {
            METRICS: MetricRecord({"partition": partition}),
            INFO: ConfigRecord({**info}),
        }
        return Message(RecordDict(content), reply_to=message)


@pytest.fixture(autouse=True)
def _identity() -> Iterator[None]:
    with flower_identity():
        yield


def on_network(network: Network, timeout: float = 5.0) -> list[Member]:
    exchange = Exchange(network, timeout)
    exchange.pause = 0.01
    return enrol(exchange, ConfigRecord({"round": 0}), lambda: 99, quorum=1.0)


@pytest.mark.parametrize("late", [0, 1, 2])
def test_on_a_network_every_node_is_waited_for(late: int) -> None:
    members = on_network(Network([2, 0, 1], expected=3, late=late))
    assert [(m.client, m.name) for m in members] == [(c, f"factory{c}") for c in range(3)]
    assert [m.node for m in members] == [101, 102, 100]


def test_a_node_that_never_comes_ends_the_wait() -> None:
    with pytest.raises(FederationError, match="2 of 3 nodes are connected"):
        on_network(Network([0, 1], expected=3), timeout=0.1)


def test_two_nodes_with_one_number_are_refused() -> None:
    with pytest.raises(FederationError, match="two nodes have the partition-id 1"):
        on_network(Network([1, 1], expected=2))


def test_a_quorum_of_the_nodes_may_begin() -> None:
    exchange = Exchange(Network([0, 1], expected=3), timeout=0.1)
    exchange.pause = 0.01
    members = enrol(exchange, ConfigRecord({"round": 0}), lambda: 99, quorum=0.6)
    assert [m.client for m in members] == [0, 1]


class Changing(Network):
    """Real nodes of which some are away."""

    def __init__(self, partitions: list[int]) -> None:
        super().__init__(partitions, expected=len(partitions))
        self.away: set[int] = set()

    def get_node_ids(self) -> list[int]:
        return [node for node in self._contexts if node not in self.away]


def test_a_plant_comes_back_with_another_node() -> None:
    network = Changing([0, 1, 1])  # the third is the second, started anew
    exchange, config = Exchange(network, 5.0), ConfigRecord({"round": 0})
    exchange.pause = 0.01
    network.away = {102}
    members, away = refresh(exchange, config, enrol(exchange, config, lambda: 99, quorum=0.5))
    assert ([m.node for m in members], away) == ([100, 101], set())
    network.away = {101, 102}
    members, away = refresh(exchange, config, members)
    assert ([m.node for m in members], away) == ([100, 101], {1})
    network.away = {101}
    members, away = refresh(exchange, config, members)
    assert ([m.node for m in members], away) == ([100, 102], set())


def test_a_node_does_not_take_the_place_of_one_that_is_here() -> None:
    network = Changing([0, 1, 1])
    exchange, config = Exchange(network, 5.0), ConfigRecord({"round": 0})
    exchange.pause = 0.01
    network.away = {102}
    members = enrol(exchange, config, lambda: 99, quorum=0.5)
    network.away = set()
    assert refresh(exchange, config, members) == (members, set())


def test_plants_with_sites_of_one_name_are_told_apart() -> None:
    network = Network([0, 1], expected=2)
    network.name = "part"
    assert [m.name for m in on_network(network)] == ["part (0)", "part (1)"]


@pytest.mark.parametrize("what", ["no name", "no number", "a line", "half a number"])
def test_who_does_not_say_who_it_is_does_not_take_part(what: str) -> None:
    class Shy(Network):
        def deliver(self, message: Message) -> Message | None:
            reply = super().deliver(message)
            assert reply is not None
            if int(reply.content[METRICS]["partition"]) == 1:  # type: ignore[index, arg-type, call-overload]
                match what:
                    case "no name":
                        del reply.content[INFO]
                    case "no number":
                        del reply.content[METRICS]
                    case "a line":
                        reply.content[INFO] = ConfigRecord({"name": "a\nb"})
                    case _:
                        reply.content[METRICS] = MetricRecord({"partition": 0.5})
            return reply

    found = enrol(Exchange(Shy([0, 1, 2], 3), 5.0), ConfigRecord(), lambda: 0, 0.5)
    assert [member.client for member in found] == [0, 2]


def test_what_was_raised_at_a_node_is_told_in_its_own_words() -> None:
    class Wary(Network):
        def deliver(self, message: Message) -> Message | None:
            raised = "<class 'experiments.bundle.UntrustedError'>:<'the app of\nthe run'>"
            return Message(Error(3, raised), reply_to=message)

    with pytest.raises(FederationError, match=r"\(node 100: the app of the run\)$"):
        on_network(Wary([0], expected=1))
