from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message

from bayfed.errors import ConfigError, FederationError
from experiments.inprocess import InProcessGrid
from server.job import Job
from strategies.secure.payload import parse
from strategies.secure.steps import FORMS, MASKED
from strategies.wire import CONFIG, METRICS
from tests import fakes
from tests.server.test_rounds import Faulty, Interrupted, last, lines, rows, silent

SECURE = {"secure": {"clip": 20.0, "bits": 24}}
BOUND = 40.0 / (2**24 - 1)
"""The step of the grid: what a mean of equal weights is off by at most."""
ADDED = ("train", "query.statistics", "query.calibrate")
Damage = Callable[[Message, Message], Message | None]


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)


def run(
    path: Path, grid: InProcessGrid | None = None, measures: bool = True, **federation: Any
) -> Job:
    experiment = fakes.experiment(**{**SECURE, "rounds": 2, **federation})
    job = Job(experiment, path, measures=measures)
    fakes.play(job, grid)
    return job


def weights(job: Job) -> torch.Tensor:
    return last(job).theta["w"]


class Watching(InProcessGrid):
    """Keeps every reply."""

    def __init__(self) -> None:
        super().__init__(fakes.app, fakes.SITES)
        self.seen: list[tuple[str, Message]] = []

    def deliver(self, message: Message) -> Message | None:
        reply = super().deliver(message)
        assert reply is not None
        self.seen.append((message.metadata.message_type, reply))
        return reply


class Lossy(Faulty):
    """Loses the replies of some clients to one kind of message, as often as it is told."""

    def __init__(self, kind: str, clients: set[int], times: int = 1, at: int = 1) -> None:
        super().__init__(silent, -1, kind, at)
        self.clients, self.left = clients, dict.fromkeys(clients, times)

    def deliver(self, message: Message) -> Message | None:
        config = message.content.config_records[CONFIG]
        client = int(str(config["client"]))
        meant = (message.metadata.message_type, config["round"]) == self.meant[1:]
        reply = InProcessGrid.deliver(self, message)
        if meant and self.left.get(client, 0):
            self.left[client] -= 1
            return None
        return reply


def test_the_mean_is_that_of_a_plain_run_within_the_bound(tmp_path: Path) -> None:
    server = {"lr": 1.0, "optimizer": "sgd"}
    plain = run(tmp_path / "plain", secure=None, rounds=1, server=server)
    secure = run(tmp_path / "secure", rounds=1, server=server)
    assert (weights(secure) - weights(plain)).abs().max() < BOUND + 1e-6
    one, other = lines(secure)[1], lines(plain)[1]
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-12)
    gaps = [client["gap"] for client in other["clients"]]
    assert one["means"]["gap"] == pytest.approx(sum(gaps) / 3, rel=1e-12)


def test_a_run_with_secure_sums_measures_the_same(tmp_path: Path) -> None:
    plain, secure = run(tmp_path / "plain", secure=None), run(tmp_path / "secure")
    assert [row[:4] for row in rows(plain)] == [row[:4] for row in rows(secure)]
    for left, right in zip(rows(plain), rows(secure), strict=True):
        assert right[4:] == pytest.approx(left[4:], abs=1e-4)
    for left, right in zip(
        last(plain).calibration.items(), last(secure).calibration.items(), strict=True
    ):
        assert (left[0], left[1].dtype, left[1].shape) == (
            right[0], right[1].dtype, right[1].shape
        )  # fmt: skip


def test_two_runs_and_a_resumed_one_give_the_same(tmp_path: Path) -> None:
    one, other = run(tmp_path / "one"), run(tmp_path / "other")
    assert torch.equal(weights(one), weights(other))
    job = Job(one.experiment, tmp_path / "resumed")
    with pytest.raises(KeyboardInterrupt):
        fakes.play(job, Interrupted("query.unmask", 2))
    fakes.play(Job(one.experiment, job.out, resume=True))
    assert torch.equal(weights(one), weights(job))
    assert rows(one) == rows(job)


def test_no_reply_that_is_added_shows_anything_of_its_client(tmp_path: Path) -> None:
    grid = Watching()
    job = run(tmp_path, grid)
    added = [reply for kind, reply in grid.seen if kind in ADDED]
    assert len(added) > 10
    for reply in added:
        assert set(reply.content.array_records) == {MASKED}
        assert set(reply.content.metric_records[METRICS]) == {"partition", "seconds"}
        for layout, array in reply.content.array_records[MASKED].items():
            assert parse(layout)
            assert array.numpy().dtype == np.uint8
    for line in lines(job):
        assert all(set(client) == {"name", "partition"} for client in line["clients"])


@pytest.mark.parametrize("kind", ["query.shares", "train", "query.confirm", "query.unmask"])
def test_who_drops_out_of_a_step_is_done_without(tmp_path: Path, kind: str) -> None:
    server = {"lr": 1.0, "optimizer": "sgd"}
    settings: dict[str, Any] = {"rounds": 1, "server": server, "quorum": 0.5, "timeout": 0.3}
    settings["measures"] = kind != "query.shares"  # which begin with the sum before otherwise
    grid = Lossy(kind, {1})
    if kind == "query.confirm":
        grid.meant, grid.left = (-1, "train", 1), {1: 1}
    secure = run(tmp_path / "secure", grid, **settings)
    missing = {1} if kind != "query.unmask" else set()
    plain_grid = Lossy("train", missing)
    plain = run(tmp_path / "plain", plain_grid, secure=None, **settings)
    assert (weights(secure) - weights(plain)).abs().max() < BOUND + 1e-6
    line = lines(secure)[1]
    assert [client["name"] for client in line["clients"]] == [
        f"site{c}" for c in range(3) if c not in missing
    ]
    assert "no reply in time" in line["refused"]["site1"]


@pytest.mark.parametrize("kind", ["query.shares", "train", "query.unmask"])
def test_one_dropout_too_many_is_an_attempt_more_and_then_an_error(
    tmp_path: Path, kind: str
) -> None:
    measures = kind != "query.shares"
    settings: dict[str, Any] = {"rounds": 1, "quorum": 0.5, "timeout": 0.3, "measures": measures}
    again = run(tmp_path / "again", Lossy(kind, {0, 1}), **settings)
    quiet = run(tmp_path / "quiet", rounds=1, measures=measures)
    assert torch.equal(weights(again), weights(quiet))
    with pytest.raises(FederationError, match=r"1 of 3 clients answered, 2 are needed"):
        run(tmp_path / "lost", Lossy(kind, {0, 1}, times=2), **settings)


def test_another_attempt_begins_at_the_parameters_that_were_sent_as_a_change(
    tmp_path: Path,
) -> None:
    settings = {"quorum": 0.5, "timeout": 0.3, "downlink": {"bits": 8}, "rounds": 3}
    again = run(tmp_path / "again", Lossy("train", {0, 1}, at=3), **settings)
    quiet = run(tmp_path / "quiet", **settings)
    assert torch.equal(weights(again), weights(quiet))


def garbled(_: Message, reply: Message) -> Message:
    masked = reply.content.array_records[MASKED]
    changed = {key: Array(array.numpy() ^ np.uint8(1)) for key, array in masked.items()}
    reply.content[MASKED] = ArrayRecord(changed)
    return reply


def truncated(_: Message, reply: Message) -> Message:
    masked = reply.content.array_records[MASKED]
    reply.content[MASKED] = ArrayRecord({k: Array(a.numpy()[:-1]) for k, a in masked.items()})
    return reply


def without_vector(_: Message, reply: Message) -> Message:
    del reply.content[MASKED]
    return reply


def of_other_tensors(_: Message, reply: Message) -> Message:
    reply.content[MASKED] = ArrayRecord({'["grid",[]]': Array(np.zeros(0, np.uint8))})
    return reply


def with_a_strange_layout(_: Message, reply: Message) -> Message:
    reply.content[MASKED] = ArrayRecord({'["grid",[["w","x"]]]': Array(np.zeros(3, np.uint8))})
    return reply


def form(name: str, **fields: Any) -> Damage:
    def damage(_: Message, reply: Message) -> Message:
        changed = {f"{name}.{key}": value for key, value in fields.items()}
        reply.content[FORMS] = ConfigRecord({**reply.content.config_records[FORMS], **changed})
        return reply

    return damage


@pytest.mark.parametrize(
    ("kind", "damage", "reason"),
    [
        ("train", truncated, r"site1: a masked vector of uint8"),
        ("train", without_vector, "site1: the reply holds no masked vector"),
        ("train", of_other_tensors, "site1: its vector holds other tensors"),
        ("train", with_a_strange_layout, "site1: .* is no layout"),
        ("train", form("tags", tags=[b""]), "site1: 'tags' of the secure aggregation is not"),
        ("train", form("tags", **{"tags": [b""], "tags.of": [1]}), "a tag for each client"),
        ("train", garbled, "round 1: the masks do not cancel"),
        ("query.shares", form("offer", public=b"x" * 1000), "site1: 'public' of the secure"),
        ("query.shares", form("offer", sealed=[b"x" * 5000] * 3), "site1: 'sealed' of the sec"),
        ("query.shares", form("offer", **{"sealed": [b""], "sealed.of": [1]}), "site1: shares f"),
        ("query.shares", form("offer", **{"sealed.of": [1, 1, 2]}), "site1: 'sealed' of the"),
        ("query.unmask", form("revealed", shares=[b"x" * 15] * 3), "site1: what is revealed"),
        ("query.unmask", form("revealed", **{"shares": [], "shares.of": []}), "a share of each"),
        ("query.unmask", form("revealed", shares=3), "site1: 'shares' of the secure"),
    ],
)
def test_a_bad_record_is_refused_in_one_line(
    tmp_path: Path, kind: str, damage: Damage, reason: str
) -> None:
    with pytest.raises(FederationError, match=reason) as caught:
        run(tmp_path, Faulty(damage, kind=kind, at=1), kind != "query.shares", rounds=1)
    assert "\n" not in str(caught.value)


def test_what_is_tampered_with_is_attributed_to_its_author(tmp_path: Path) -> None:
    damage = form("offer", sealed=[b"gAAAAA" + b"x" * 100] * 3)
    grid = Faulty(damage, kind="query.shares", at=1)
    with pytest.raises(FederationError, match="the shares from client 1 cannot be opened"):
        run(tmp_path, grid, measures=False, rounds=1)


def test_a_number_of_an_attempt_that_leaves_no_next_one_is_refused(tmp_path: Path) -> None:
    grid = Faulty(form("hello", latest=2**63 - 1), kind="query.keys", at=0)
    with pytest.raises(FederationError, match=r"site1: .* is no number of an attempt"):
        run(tmp_path, grid)


def test_too_few_clients_to_hide_among_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="a sum over 2 clients hides none"):
        run(tmp_path, fraction=0.5)


def test_clients_that_share_a_node_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="2 nodes simulate 3 clients; a node for each"):
        run(tmp_path, InProcessGrid(fakes.app, 2))


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("personal", {"personal": ["w"]}),
        ("defence.rule", {"defence": {"rule": "median"}}),
        ("defence.norm", {"defence": {"norm": 3}}),
        ("uplink.select", {"uplink": {"keep": 0.5}}),
        ("uplink.bits", {"uplink": {"bits": 8}}),
        ("regions.sites", {"regions": {"sites": {"north": ["site0"], "south": ["site1"]}}}),
    ],
)
def test_what_needs_single_updates_is_refused_beside_secure_sums(
    key: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=f"federation: {key}: .* federation.secure") as caught:
        fakes.experiment(**SECURE, **settings)
    assert "\n" not in str(caught.value)


def test_coordinates_drawn_alike_go_with_secure_sums(tmp_path: Path) -> None:
    uplink = {"keep": 0.5, "select": "random"}
    server = {"lr": 1.0, "optimizer": "sgd"}
    settings = {"uplink": uplink, "server": server, "rounds": 2}
    plain = run(tmp_path / "plain", secure=None, **settings)
    secure = run(tmp_path / "secure", **settings)
    assert (weights(secure) - weights(plain)).abs().max() < 4 * BOUND + 1e-6


SIX = {"rounds": 1, "quorum": 0.6, "timeout": 20.0}


@pytest.mark.parametrize(
    ("kind", "at", "damage", "reason"),
    [
        ("query.keys", 0, form("hello", public=b"x" * 33), "its public key is none"),
        ("query.shares", 1, form("offer", public=b"x" * 33), "no public key"),
        ("query.shares", 1, form("offer", proof=b"x" * 32), "cannot be put together"),
        ("query.shares", 1, form("offer", sealed=[b"gAAAAA" + b"x" * 99] * 5), "cannot be opened"),
    ],
)
def test_who_spoils_a_sum_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, at: int, damage: Damage, reason: str
) -> None:
    monkeypatch.setattr(fakes, "SITES", 6)

    class Spoiling(Faulty):
        """It does so again and again."""

        def deliver(self, message: Message) -> Message | None:
            reply = InProcessGrid.deliver(self, message)
            assert reply is not None
            config = message.content.config_records[CONFIG]
            meant = config["client"] == 1 and int(str(config["round"])) >= at
            hostile = meant and message.metadata.message_type == kind
            return damage(message, reply) if hostile else reply

    job = run(tmp_path, Spoiling(damage), kind != "query.shares", **SIX)
    line = next(line for line in lines(job) if line["round"] == 1)
    assert {client["name"] for client in line["clients"]} == {"site0", "site2", "site3", "site4"}
    assert reason in line["refused"]["site1"]


def test_the_key_of_another_client_is_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fakes, "SITES", 6)

    class Copying(InProcessGrid):
        first: Any = None

        def deliver(self, message: Message) -> Message | None:
            reply = super().deliver(message)
            assert reply is not None
            if message.metadata.message_type == "query.keys":
                client = message.content.config_records[CONFIG]["client"]
                public = reply.content.config_records[FORMS]["hello.public"]
                self.first = public if client == 0 else self.first
                if client == 1:
                    return form("hello", public=self.first)(message, reply)
            return reply

    job = run(tmp_path, Copying(fakes.app, 6), **SIX)
    assert "its public key is that of another client" in lines(job)[1]["refused"]["site1"]


class Heard(Lossy):
    """Notes the kinds of messages of each round, in order; loses and damages as it is told."""

    def __init__(
        self, kind: str = "none", clients: set[int] | None = None, at: int = 1, damage: Any = None
    ) -> None:
        super().__init__(kind, clients or set(), at=at)
        self.of: dict[int, list[str]] = {}
        self.spoil = damage

    def deliver(self, message: Message) -> Message | None:
        config, kind = message.content.config_records[CONFIG], message.metadata.message_type
        kinds = self.of.setdefault(int(str(config["round"])), [])
        if kinds[-1:] != [kind]:
            kinds.append(kind)
        reply = super().deliver(message)
        offers = {} if reply is None else reply.content.config_records.get(FORMS, {})
        if self.spoil and reply is not None and "offer.public" in offers:
            is_meant = (config["client"], config["round"], kind) == (1, 1, "query.unmask")
            return self.spoil(message, reply) if is_meant else reply
        return reply


QUICK: dict[str, Any] = {
    "rounds": 3,
    "measures": False,
    "quorum": 0.5,
    "timeout": 0.3,
    "server": {"lr": 1.0, "optimizer": "sgd"},
}
SHORT, WHOLE = ["train", "query.unmask"], ["query.shares", "train", "query.unmask"]


def test_who_unmasks_a_sum_begins_the_next_one(tmp_path: Path) -> None:
    grid = Heard()
    job = run(tmp_path / "secure", grid, **QUICK)
    assert grid.of[1][-3:] == WHOLE
    assert [grid.of[number] for number in (2, 3)] == [WHOLE, SHORT]
    plain = run(tmp_path / "plain", **{**QUICK, "secure": None})
    assert (weights(job) - weights(plain)).abs().max() < 3 * BOUND + 1e-6


def test_where_others_take_part_each_time_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fakes, "SITES", 9)
    grid = Heard()
    run(tmp_path, grid, **QUICK, fraction=0.5)
    assert all("query.shares" in grid.of[number] for number in (2, 3))


@pytest.mark.parametrize(
    ("grid", "kinds", "missing"),
    [
        (Heard("train", {1}, at=3), {3: ["train", "query.confirm", "query.unmask"]}, {3}),
        (Heard("query.unmask", {1}, at=2), {3: WHOLE}, set()),
    ],
    ids=["its vector is lost", "its offer is lost"],
)
def test_who_drops_out_of_what_has_begun_is_done_without(
    tmp_path: Path, grid: Heard, kinds: dict[int, list[str]], missing: set[int]
) -> None:
    job = run(tmp_path / "secure", grid, **QUICK)
    plain = run(
        tmp_path / "plain",
        Lossy("train", {1} if missing else set(), at=3),
        **{**QUICK, "secure": None},
    )
    assert {number: grid.of[number] for number in kinds} == kinds
    assert (weights(job) - weights(plain)).abs().max() < 3 * BOUND + 1e-6
    names = {line["round"]: {c["name"] for c in line["clients"]} for line in lines(job)}
    assert {n for n in (1, 2, 3) if "site1" not in names[n]} == missing


def test_a_run_begins_anew_where_an_offer_is_none(tmp_path: Path) -> None:
    settings = {**QUICK, "measures": True, "quorum": 1.0}
    grid = Heard(damage=form("offer", public=b"x" * 33))
    damaged = run(tmp_path / "damaged", grid, **settings)
    assert "query.shares" in grid.of[2]
    sound = Heard()
    assert torch.equal(weights(damaged), weights(run(tmp_path / "sound", sound, **settings)))
    assert "query.shares" not in sound.of[2]
