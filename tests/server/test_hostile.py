"""One plant that sends what it likes: it is refused with a reason, and the others go on."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from torch import Tensor

from bayfed.evaluation.table import read_rows
from experiments.inprocess import InProcessGrid, flower_identity
from server import history
from server.exchange import Exchange, Replies
from server.job import Job
from server.privacy import Guard
from server.results import Rows
from server.verdict import LONGEST
from strategies.wire import ARRAYS, CONFIG, ERROR, INFO, METRICS, WEIGHT, Member, pack
from tests import fakes

Forge = Callable[[Message, Message], Message | None]
HOSTILE = 1
INF, NAN = float("inf"), float("nan")


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fakes.install(monkeypatch)
    with flower_identity():
        yield


class Plants(InProcessGrid):
    """Nodes on a network, one of which forges its replies to messages of one kind."""

    simulated = False

    def __init__(self, forge: Forge, kind: str) -> None:
        super().__init__(fakes.app, fakes.SITES)
        self.forge, self.kind = forge, kind

    def deliver(self, message: Message) -> Message | None:
        reply = super().deliver(message)
        assert reply is not None
        hostile = message.content.config_records[CONFIG]["client"] == HOSTILE
        if hostile and message.metadata.message_type == self.kind:
            return self.forge(message, reply)
        return reply


def play(tmp_path: Path, grid: InProcessGrid, **federation: Any) -> list[dict[str, Any]]:
    """Return the history of a run of which three of four plants are honest."""
    settings = {"rounds": 2, "quorum": 0.6, "timeout": 20.0, "diagnostics": {"every": 1}}
    job = Job(fakes.experiment(**{**settings, **federation}), tmp_path / "run")
    fakes.play(job, grid)
    lines = history.read(job.history)
    assert [line["round"] for line in lines] == [0, 1, 2]
    for line in lines[1:]:
        assert {"site0", "site2"} <= {client["name"] for client in line["clients"]}
    rows = {row.site for row in read_rows(job.results) if row.round == 2}
    assert {"site0", "site2", "site3"} <= rows
    return lines


def said(lines: list[dict[str, Any]], name: str = "site1") -> str:
    return "; ".join(line["refused"].get(name, "") for line in lines)


def tensors(**wanted: Tensor) -> Forge:
    def forge(_: Message, reply: Message) -> Message:
        reply.content[ARRAYS] = pack(wanted)
        return reply

    return forge


def layout(name: str, array: Array) -> Forge:
    def forge(_: Message, reply: Message) -> Message:
        reply.content[ARRAYS] = ArrayRecord({name: array})
        return reply

    return forge


def metrics(**wanted: float) -> Forge:
    def forge(_: Message, reply: Message) -> Message:
        known: Any = reply.content[METRICS]
        named = {name.replace("__", "-"): value for name, value in wanted.items()}
        reply.content[METRICS] = MetricRecord({**known, **named})
        return reply

    return forge


def table(text: str) -> Forge:
    def forge(_: Message, reply: Message) -> Message:
        known: Any = reply.content[INFO]
        reply.content[INFO] = ConfigRecord({**known, "rows": text})
        return reply

    return forge


def row(**cells: Any) -> str:
    usual = {"method": "m", "protocol": "p", "site": "s", "seed": 0, "draw": 0, "shots": 5}
    return json.dumps([{**usual, **cells}])


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def spread(total: float, count: int = 24) -> dict[str, Tensor]:
    return {"sum": scalar(total), "count": torch.tensor(count)}


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (tensors(**spread(NAN)), "'sum' holds NaN or Inf"),
        (tensors(**spread(-1.0)), "'sum' is negative"),
        (tensors(**spread(1.0, -5)), "'count' is negative"),
        (tensors(**spread(1.0, -(2**63))), "'count' is out of range"),
        (tensors(**spread(1e300)), "'sum' is out of range"),
        (tensors(sum=scalar(1.0)), "'count' is missing"),
        (tensors(**spread(1.0), more=scalar(1.0)), "'more' is not expected"),
        (tensors(sum=torch.ones(7).double(), count=torch.tensor(1)), r"has shape \(7,\)"),
        (tensors(sum=torch.ones(()), count=torch.tensor(1)), "has dtype torch.float32"),
    ],
)
def test_sums_of_a_calibration(tmp_path: Path, forge: Forge, reason: str) -> None:
    lines = play(tmp_path, Plants(forge, "query.calibrate"))
    assert_matches(reason, said(lines))


def assert_matches(reason: str, text: str) -> None:
    assert re.search(reason, text), text


GRADIENT = {"gradient/w": torch.ones(3).double(), "gradient/b": torch.zeros(2).double()}
NUMBERS = {"square": scalar(3.0), "objective": scalar(1.0), "inner_gain": scalar(0.0)}


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (tensors(), "'gradient/b' is missing"),
        (tensors(**GRADIENT), "'inner_gain' is missing"),
        (tensors(**GRADIENT, **{**NUMBERS, "square": scalar(1e9)}), "squared norm .* is not 1e"),
        (tensors(**GRADIENT, **{**NUMBERS, "objective": scalar(INF)}), "'objective' holds NaN"),
    ],
)
def test_sums_of_a_diagnosis(tmp_path: Path, forge: Forge, reason: str) -> None:
    lines = play(tmp_path, Plants(forge, "query.diagnose"))
    assert_matches(reason, said(lines))
    assert all(line["objective"] is not None for line in lines)


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (tensors(n=torch.tensor(10), sum=torch.full((3,), NAN)), "'sum' holds NaN"),
        (tensors(n=torch.tensor(10), sum=torch.ones(4)), "'sum' has shape"),
        (tensors(n=scalar(10.0), sum=torch.ones(3)), "'n' has dtype"),
        (tensors(n=torch.tensor(2**60), sum=torch.ones(3)), "'n' is out of range"),
        (tensors(within=scalar(1.0)), "'count' is missing"),
    ],
)
def test_sums_of_statistics(tmp_path: Path, forge: Forge, reason: str) -> None:
    lines = play(tmp_path, Plants(forge, "query.statistics"))
    assert_matches(reason, said(lines))


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (metrics(loss=NAN), "the loss is not finite"),
        (metrics(loss=1e300), "federation.largest_loss"),
        (metrics(seconds=-1.0), "has computed for -1"),
        (metrics(seconds=INF), "has computed for inf"),
        (metrics(num__examples=0.5), "no number of examples"),
        (metrics(num__examples=-3), "num-examples is -3"),
        (metrics(num__examples=2**62), "num-examples is"),
        (metrics(name=1.0), "cannot be called 'name'"),
        (metrics(episodes=1.0), "cannot be called 'episodes'"),
        (metrics(**{"\x1b[2J": 1.0}), "cannot be called"),
        (metrics(**{"m" * 10_000: 1.0}), "cannot be called"),
        (metrics(**{f"m{i}": 1.0 for i in range(1000)}), "metrics, at most"),
        (metrics(partition=2), "not from client 1"),
        (tensors(w=torch.full((3,), 1e37), b=torch.zeros(2)), "out of range"),
        (tensors(w=torch.zeros(3, dtype=torch.int64), b=torch.zeros(2)), "has dtype"),
        (layout("[" * 100_000, Array(np.zeros(1))), "cannot be read"),
        (layout("[" + '["w",1],' * 200_000 + "]", Array(np.zeros(1))), "a layout of"),
        (layout('[["w",true]]', Array(np.zeros(1))), "cannot be read"),
        (layout("[3]", Array(np.zeros(1))), "cannot be read"),
        (layout('[["w",3]]', Array("float32", (3,), "numpy.ndarray", b"")), "cannot be read"),
        (layout('[["w",3]]', Array("float32", (3,), "numpy.ndarray", b"PK\3\4")), "cannot be"),
        (layout('[["w",3]]', Array("float32", (3,), "pickle", b"\x80\4.")), "cannot be read"),
        (
            layout(json.dumps([[f"t{i}", 0] for i in range(20_000)]), Array(np.zeros(0))),
            "more than 10000 tensors",
        ),
    ],
)
def test_updates(tmp_path: Path, forge: Forge, reason: str) -> None:
    lines = play(tmp_path, Plants(forge, "train"))
    assert_matches(reason, said(lines))


@pytest.mark.parametrize("words", ["x" * 10**6, "\x1b[2J\x00\n\u202eevil", ""])
@pytest.mark.parametrize("own", [False, True])
def test_what_it_says_of_its_failure_is_one_line(tmp_path: Path, words: str, own: bool) -> None:
    def forge(message: Message, _: Message) -> Message:
        if own:
            record = ConfigRecord({"name": words, "message": words})
            return Message(RecordDict({ERROR: record}), reply_to=message)
        return Message(Error(0, words), reply_to=message)

    reason = said(play(tmp_path, Plants(forge, "train"))[1:2])
    assert reason.isprintable()
    assert len(reason) < LONGEST + 50


def test_a_failure_of_another_type_than_text(tmp_path: Path) -> None:
    def forge(message: Message, _: Message) -> Message:
        return Message(RecordDict({ERROR: ConfigRecord({"message": [1, 2]})}), reply_to=message)

    assert "[1, 2]" in said(play(tmp_path, Plants(forge, "train")))


def test_nothing_that_a_plant_says_is_the_death_of_a_worker_here(tmp_path: Path) -> None:
    def forge(message: Message, _: Message) -> Message:
        return Message(Error(0, "ray.exceptions.ActorDiedError"), reply_to=message)

    assert "ActorDiedError" in said(play(tmp_path, Plants(forge, "train")))


@pytest.mark.parametrize("kind", ["train", "evaluate", "query.calibrate", "query.diagnose"])
def test_records_of_another_kind(tmp_path: Path, kind: str) -> None:
    def forge(_: Message, reply: Message) -> Message:
        for key in (ARRAYS, INFO, METRICS):
            reply.content[key] = ConfigRecord({key: [b"", b"x"]})
        return reply

    assert "not from client 1" in said(play(tmp_path, Plants(forge, kind)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (row(image_auroc=INF), "Infinity is not a number"),
        (row(image_auroc=0.5).replace("0.5", "1e999"), "image_auroc is 'inf'"),
        (row(image_auroc=1.5), "image_auroc is '1.5'"),
        (row(image_auroc=-0.1), "image_auroc is '-0.1'"),
        (row(draw=10**400), "draw is '1000"),
        (row(draw=0.5), "draw is '0.5'"),
        (row(draw=True), "draw is 'True'"),
        (row(seed=None), "seed is 'None'"),
        (row(shots=-1), "shots is '-1'"),
        (row(site=None), "site is 'None'"),
        (row(site=""), "site is ''"),
        (row(site="x" * 10_000), "site is 'xxx"),
        (row(site="a\nb"), "site is 'a"),
        (row(site="\ud800"), "site is"),
        (row(fit_seconds=1e300), "fit_seconds is '1e"),
        (row(round=7), "'round' is not expected"),
        (json.dumps([json.loads(row())[0]] * 20_000), "20000 of them"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "a list of rows"),
        (" " * (17 * 2**20), "none are given"),
    ],
)
def test_rows_of_results(tmp_path: Path, text: str, reason: str) -> None:
    lines = play(tmp_path, Plants(table(text), "evaluate"))
    assert_matches(reason, said(lines))


def test_rows_of_another_ones_site_do_not_take_its_place(tmp_path: Path) -> None:
    grid = Plants(table(row(site="site0", image_auroc=1.0)), "evaluate")
    lines = play(tmp_path, grid)
    found = {row.site for row in read_rows(tmp_path / "run" / "results.csv")}
    assert found == {"site0", "site0 (site1)", "site2", "site3"}
    assert lines[-1]["sites"]["site0"] == 0


def test_nobody_fills_the_table() -> None:
    message = Message(RecordDict(), 1, "evaluate")
    record = {METRICS: MetricRecord({"partition": 1}), INFO: ConfigRecord({"rows": row()})}
    reply, rows = Message(RecordDict(record), reply_to=message), Rows(limit=2 * len(row()))
    reasons = [rows.refusal(reply) for _ in range(3)]
    assert reasons[:2] == [None, None]
    assert "characters in this run" in str(reasons[2])


class Unreadable(Plants):
    """What it has sent cannot be made a message of, as Flower's Grid finds while it fetches it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(lambda _, reply: reply, "")
        self.error = error

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        found = list(super().pull_messages(message_ids))
        for reply in found:
            hostile = reply.content.metric_records[METRICS]["partition"] == HOSTILE
            if hostile and reply.metadata.message_type == "train":
                raise self.error
        return found


@pytest.mark.parametrize(
    "error", [ValueError("Mismatch\nin children"), KeyError("x"), RecursionError(), MemoryError()]
)
def test_a_reply_that_cannot_be_made_a_message(tmp_path: Path, error: Exception) -> None:
    lines = play(tmp_path, Unreadable(error))
    assert f"cannot be read ({type(error).__name__}" in said(lines)
    assert "\n" not in said(lines)


def test_a_superlink_that_cannot_be_asked_is_nobodys_fault(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="away"):
        play(tmp_path, Unreadable(httpx.ConnectError("away")))


def test_a_reply_that_says_it_answers_another_message(tmp_path: Path) -> None:
    class Crossing(Plants):
        first = ""

        def deliver(self, message: Message) -> Message | None:
            reply = InProcessGrid.deliver(self, message)
            assert reply is not None
            if message.metadata.message_type == "train":
                client = message.content.config_records[CONFIG]["client"]
                self.first = message.metadata.message_id if client == 0 else self.first
                if client == HOSTILE:
                    reply.metadata.__dict__["_reply_to_message_id"] = self.first
                    reply.content[METRICS] = MetricRecord({"partition": 0, "loss": 0.0, WEIGHT: 1})
            return reply

    lines = play(tmp_path, Crossing(lambda _, reply: reply, ""))
    assert "answers another message" in said(lines)


def test_content_that_never_comes_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.inbox.PATIENCE", 0.05)
    ended = threading.Event()

    class Waiting(Plants):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            for reply in super().pull_messages(message_ids):
                if reply.metadata.src_node_id == 101:
                    ended.wait(30.0)
                yield reply

    grid = Waiting(lambda _, reply: reply, "")
    exchange = Exchange(grid, timeout=0.4)
    exchange.pause = 0.01
    asked = [
        (Member(c, f"site{c}", node), Message(RecordDict(), node, "query.other"))
        for c, node in enumerate((100, 101, 102))
    ]
    grid.app = lambda message, _: Message(
        RecordDict({METRICS: MetricRecord({"partition": message.metadata.dst_node_id - 100})}),
        reply_to=message,
    )
    monkeypatch.setattr(Plants, "deliver", InProcessGrid.deliver)
    started = time.monotonic()
    replies = exchange.ask("asking", asked)
    ended.set()
    assert time.monotonic() - started < 10.0
    assert [member.client for member in replies.good] == [0, 2]
    assert replies.refused == {"site1": "no reply in time"}


def test_a_plant_that_changes_its_name_stays_in_quarantine(tmp_path: Path) -> None:
    def renamed(message: Message, context: Context) -> Message:
        reply = fakes.app(message, context)
        if context.node_config["partition-id"] == HOSTILE:
            known: Any = reply.content[INFO]
            number = message.content.config_records[CONFIG]["round"]
            reply.content[INFO] = ConfigRecord({**known, "name": f"another{number}"})
        return reply

    grid = Plants(tensors(w=torch.full((3,), NAN), b=torch.zeros(2)), "train")
    grid.app = renamed
    lines = play(tmp_path, grid, defence={"quarantine": 5})
    assert "is not asked until round 7" in lines[2]["refused"]["another0"]
    assert lines[2]["plants"]["1"] == "another0"


@pytest.mark.parametrize("kind", ["evaluate", "query.calibrate", "query.diagnose"])
def test_who_says_nothing_when_it_is_measured_is_asked_less_often(
    tmp_path: Path, kind: str
) -> None:
    asked = []

    def forge(message: Message, _: Message) -> None:
        asked.append(message.content.config_records[CONFIG]["round"])

    settings = {"rounds": 8, "quorum": 0.6, "timeout": 0.3, "diagnostics": {"every": 1}}
    of = fakes.experiment(**settings)
    job = Job(of.model_copy(update={"evaluation": of.evaluation.model_copy(update={"every": 1})}),
              tmp_path)  # fmt: skip
    fakes.play(job, Plants(forge, kind))
    assert len(set(asked)) < 6
    assert "is not asked until" in said(history.read(job.history))


def test_what_it_says_that_privacy_has_cost_is_its_own_affair() -> None:
    privacy = {"level": "image", "noise": 1.0, "clip": 1.0, "delta": 1e-3, "epsilon": 9.0}
    guard = Guard(fakes.experiment(privacy=privacy, quorum=0.6, rounds=9))
    members = [Member(c, f"site{c}", c) for c in range(3)]
    guard.enrol(members)

    def noted(*told: tuple[float, float]) -> Replies:
        replies = Replies("round 1")
        for member, (spent, following) in zip(members, told, strict=True):
            record = {METRICS: MetricRecord({"epsilon": spent, "epsilon_next": following})}
            asked = Message(RecordDict(), 1, "train")
            replies.good[member] = Message(RecordDict(record), reply_to=asked)
        guard.note(replies)
        return replies

    assert "site1" in noted((1.0, 2.0), (NAN, NAN), (1.0, 2.0)).refused
    assert "site1" in noted((1.0, 2.0), (1.0, INF), (1.0, 2.0)).refused
    assert "site1" in noted((1.0, 2.0), (-1.0, 2.0), (1.0, 2.0)).refused
    noted((1.0, 2.0), (1.0, 1e9), (1.0, 2.0))
    assert guard.over(members) == {"site1": "would pass federation.privacy.epsilon: 9.0"}
    assert guard.allows(2)
    resumed = Guard(fakes.experiment(privacy=privacy, quorum=0.6, rounds=9), guard.line(1))
    resumed.enrol(members)
    assert resumed.over(members) == guard.over(members)
    noted((1.0, 2.0), (1.0, 1e9), (8.0, 9.1))
    assert not guard.allows(2)
