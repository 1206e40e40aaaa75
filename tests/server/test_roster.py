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
from server.admission import Admission
from server.exchange import Exchange
from server.plants import Plant, Plants
from server.roster import sample
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


CONFIG = ConfigRecord({"round": 0})


def admission(network: Network, timeout: float = 5.0, plants: Plants | None = None) -> Admission:
    exchange = Exchange(network, timeout)
    exchange.pause = 0.01
    return Admission(exchange, plants)


def on_network(network: Network, timeout: float = 5.0, quorum: float = 1.0) -> list[Member]:
    return admission(network, timeout).enrol(CONFIG, quorum)


@pytest.mark.parametrize("late", [0, 1, 2])
def test_on_a_network_every_node_is_waited_for(late: int) -> None:
    members = on_network(Network([2, 0, 1], expected=3, late=late))
    assert [(m.client, m.name) for m in members] == [(c, f"factory{c}") for c in range(3)]
    assert [m.node for m in members] == [101, 102, 100]


def test_a_node_that_never_comes_ends_the_wait() -> None:
    with pytest.raises(FederationError, match="2 of 3 nodes are connected"):
        on_network(Network([0, 1], expected=3), timeout=0.1)


def test_of_two_nodes_with_one_number_the_first_is_it() -> None:
    found = admission(Network([0, 1, 1], expected=2))
    assert [(m.client, m.node) for m in found.enrol(CONFIG, 1.0)] == [(0, 100), (1, 101)]
    assert found.refused == {"node 102": "opening the data: another node has the number 1"}


def test_a_twin_is_no_plant_that_has_come() -> None:
    with pytest.raises(FederationError, match="1 of 2 nodes are connected"):
        on_network(Network([1, 1], expected=2), timeout=0.1)


def test_a_quorum_of_the_nodes_may_begin() -> None:
    members = on_network(Network([0, 1], expected=3), timeout=0.1, quorum=0.6)
    assert [m.client for m in members] == [0, 1]


class Changing(Network):
    """Real nodes of which some are away."""

    def __init__(self, partitions: list[int]) -> None:
        super().__init__(partitions, expected=len(partitions))
        self.away: set[int] = set()

    def get_node_ids(self) -> list[int]:
        return [node for node in self._contexts if node not in self.away]


def nodes(found: tuple[list[Member], set[int]]) -> tuple[list[int], set[int]]:
    members, away = found
    return [member.node for member in members], away


def test_a_plant_comes_back_with_another_node() -> None:
    network = Changing([0, 1, 1])  # the third is the second, started anew
    network.expected, found = 2, admission(network)
    network.away = {102}
    found.enrol(CONFIG, 1.0)
    assert nodes(found.refresh(CONFIG, 1)) == ([100, 101], set())
    network.away = {101, 102}
    assert nodes(found.refresh(CONFIG, 2)) == ([100, 101], {1})
    network.away = {101}
    assert nodes(found.refresh(CONFIG, 3)) == ([100, 102], set())


def test_who_was_first_has_its_place_back() -> None:
    network = Changing([0, 1, 1])
    network.expected, found = 2, admission(network)
    network.away = {102}
    found.enrol(CONFIG, 1.0)
    network.away = {101}
    assert nodes(found.refresh(CONFIG, 1)) == ([100, 102], set())
    network.away = set()
    assert nodes(found.refresh(CONFIG, 2)) == ([100, 101], set())


def test_a_node_does_not_take_the_place_of_one_that_is_here() -> None:
    network = Changing([0, 1, 1])
    network.expected, found = 2, admission(network)
    network.away = {102}
    members = found.enrol(CONFIG, 1.0)
    network.away = set()
    assert found.refresh(CONFIG, 1) == (members, set())
    assert found.refused == {"node 102": "opening the data: another node has the number 1"}


def test_who_was_turned_away_is_asked_less_and_less_often() -> None:
    network = Changing([0, 1, 1])
    network.expected, found = 2, admission(network)
    asked = []
    found.enrol(CONFIG, 1.0)
    for number in range(1, 20):
        found.refused.clear()
        found.refresh(CONFIG, number)
        asked += [number] if found.refused else []
    assert asked == [1, 3, 7, 15]


def test_plants_with_sites_of_one_name_are_told_apart() -> None:
    network = Network([0, 1], expected=2)
    network.name = "part"
    assert [m.name for m in on_network(network)] == ["part (0)", "part (1)"]


def test_a_plant_does_not_take_the_site_of_another_into_its_name() -> None:
    network = Changing([0, 1, 2])
    network.expected, found = 3, admission(network, 0.05)
    network.away, network.name = {101, 102}, "part+screw"
    found.enrol(CONFIG, 0.3)
    network.away, network.name = {100, 102}, "evil+part"
    found.refresh(CONFIG, 1)
    network.away, network.name = {100, 101}, "part (1)+nut"
    members, _ = found.refresh(CONFIG, 2)
    names = [m.name for m in members]
    assert names == ["part+screw", "evil+part (1)", "part (1) (2)+nut"]
    sites = [site for name in names for site in name.split("+")]
    assert len(sites) == len(set(sites))


def test_a_plant_keeps_its_name_whatever_it_calls_itself_later() -> None:
    network = Changing([0, 1, 1])
    network.expected, found = 2, admission(network)
    network.away = {102}
    found.enrol(CONFIG, 1.0)
    network.away, network.name = {101}, "factory0"
    members, _ = found.refresh(CONFIG, 1)
    assert [(m.name, m.node) for m in members] == [("factory0", 100), ("factory1", 102)]
    # and where the run is resumed, by another server
    resumed = Admission(Exchange(network, 5.0), line=found.line())
    network.name = "factory7"
    assert [m.name for m in resumed.enrol(CONFIG, 1.0)] == ["factory0", "factory1"]


def test_a_latecomer_does_not_change_the_name_of_another() -> None:
    network = Changing([0, 1])
    network.away, found = {101}, admission(network, 0.05)
    network.name = "part"
    found.enrol(CONFIG, 0.5)
    network.away = set()
    members, _ = found.refresh(CONFIG, 1)
    assert [m.name for m in members] == ["part", "part (1)"]


PLANTS = Plants(3, {100: Plant(0, "a"), 101: Plant(1, "b"), 102: Plant(2, "c")})


def test_a_list_of_plants_says_who_is_who() -> None:
    network = Network([0, 1, 1, 3], expected=10**9)  # the third is c, the fourth nobody
    found = admission(network, plants=PLANTS)
    assert [(m.client, m.node) for m in found.enrol(CONFIG, 0.6)] == [(0, 100), (1, 101)]
    assert found.refused == {
        "c": "opening the data: the reply is not from client 2",
        "node 103": "opening the data: it is not on the list of plants",
    }


def test_a_list_of_plants_has_names_for_twins() -> None:
    network = Network([0, 1, 2], expected=3)
    network.name = "part"
    members = admission(network, plants=PLANTS).enrol(CONFIG, 1.0)
    assert [m.name for m in members] == ["part (a)", "part (b)", "part (c)"]


def test_plants_that_have_not_joined_are_not_waited_for() -> None:
    two = Plants(3, dict(list(PLANTS.by_node.items())[:2]))
    with pytest.raises(
        FederationError, match=r"2 of 3 nodes are .*, 2 have joined; federation\.quorum is 1"
    ):
        admission(Network([0, 1], expected=3), 1e3, two).enrol(CONFIG, 1.0)
    assert len(admission(Network([0, 1], expected=3), 1e3, two).enrol(CONFIG, 0.6)) == 2


class Boasting(Network):
    """Its first node speaks of more plants than there are."""

    def deliver(self, message: Message) -> Message | None:
        reply = super().deliver(message)
        assert reply is not None
        if message.metadata.dst_node_id == 100:
            known = dict(reply.content[INFO])  # type: ignore[arg-type]
            reply.content[INFO] = ConfigRecord({**known, "partitions": 90_000})
        return reply


def test_how_many_plants_there_are_is_what_most_of_them_say() -> None:
    assert len(on_network(Boasting([0, 1, 2], expected=3, late=1))) == 3


def test_a_node_that_says_nothing_does_not_keep_the_others_out() -> None:
    class Mute(Network):
        def deliver(self, message: Message) -> Message | None:
            mute = message.metadata.dst_node_id == 100
            return None if mute else super().deliver(message)

    network = Mute([0, 1, 2], expected=3, late=2)
    network.looks = 1  # the others come while it is waited for
    assert [m.client for m in on_network(network, timeout=0.2, quorum=0.6)] == [1, 2]


def test_a_plant_that_fits_nowhere_is_turned_away() -> None:
    exchange = Exchange(Network([0, 1, 2], expected=3), 5.0)
    found = Admission(exchange, fits=lambda m: "no region" if m.client == 1 else None)
    assert [m.client for m in found.enrol(CONFIG, 0.6)] == [0, 2]
    assert found.refused == {"factory1": "opening the data: no region"}


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

    found = on_network(Shy([0, 1, 2], 3), quorum=0.5)
    assert [member.client for member in found] == [0, 2]


def test_what_was_raised_at_a_node_is_told_in_its_own_words() -> None:
    class Wary(Network):
        def deliver(self, message: Message) -> Message | None:
            raised = "<class 'experiments.bundle.UntrustedError'>:<'the app of\nthe run'>"
            return Message(Error(3, raised), reply_to=message)

    with pytest.raises(FederationError, match=r"\(node 100: the app of the run\)$"):
        on_network(Wary([0], expected=1))
