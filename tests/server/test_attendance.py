from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord, Context, Message
from hypothesis import given
from hypothesis import strategies as st

from bayfed.config import experiment_hash
from bayfed.errors import CheckpointError, ConfigError
from experiments.delayed import DelayedGrid
from experiments.inprocess import InProcessGrid
from server import checkpoints, history
from server.attendance import LONGEST, Attendance
from server.exchange import Replies
from server.job import Job
from strategies.wire import ARRAYS, CONFIG, Member, arrays_of, pack
from tests import fakes

A, B = Member(0, "a", 1), Member(1, "b", 2)


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)


def away(*names: str) -> Replies:
    return Replies("", refused=dict.fromkeys(names, "gone"), gone=set(names))


def test_a_node_that_stays_away_is_asked_less_and_less_often() -> None:
    attendance, asked = Attendance(), []
    for number in range(1, 36):
        resting = attendance.resting(number, [A, B])
        present = [m for m in (A, B) if m.name not in resting]
        if A in present:
            asked.append(number)
        attendance.note(number, away("a") if A in present else away(), present)
    assert asked == [1, 2, 4, 8, 16, 24, 32]
    assert "away 7 times in a row" in attendance.resting(36, [A])["a"]
    assert LONGEST == 7


def test_whoever_answers_is_asked_again() -> None:
    attendance = Attendance()
    for number in (1, 2):
        attendance.note(number, away("a"), [A])
    attendance.note(4, away(), [A])
    attendance.note(5, away("a"), [A])
    assert attendance.resting(6, [A]) == {}


def test_a_refused_update_costs_the_stated_rounds() -> None:
    attendance = Attendance(quarantine=3)
    attendance.note(2, Replies("", refused={"a": "NaN"}), [A])
    resting = [n for n in range(3, 9) if attendance.resting(n, [A])]
    assert resting == [3, 4, 5]
    assert attendance.resting(3, [A, B]) == {"a": "is not asked until round 6: NaN"}


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=20))
def test_it_goes_on_from_the_history(events: list[tuple[bool, bool]]) -> None:
    whole, parts = Attendance(2), Attendance(2)
    for number, (gone, refused) in enumerate(events, start=1):
        replies = Replies(
            "", refused={"b": "NaN"} if refused else {}, gone={"a"} if gone else set()
        )
        for attendance in (whole, parts):
            attendance.note(number, replies, [A, B])
        parts = Attendance(2, parts.line())
        assert whole.line() == parts.line()


class Hostile(InProcessGrid):
    """Client 1 sends what ``forge`` makes of its update in some rounds."""

    def __init__(self, update: torch.Tensor, rounds: set[int]) -> None:
        super().__init__(fakes.app, fakes.SITES)
        self.update, self.rounds = update, rounds

    def deliver(self, message: Message) -> Message | None:
        reply, config = super().deliver(message), message.content.config_records[CONFIG]
        assert reply is not None
        if (
            config["client"] == 1
            and config["round"] in self.rounds
            and message.metadata.message_type == "train"
        ):
            reply.content[ARRAYS] = pack({"w": self.update, "b": torch.zeros(2)})
        return reply


def refused(job: Job) -> dict[int, dict[str, str]]:
    return {line["round"]: line["refused"] for line in history.read(job.history) if line["refused"]}


def test_a_refused_client_is_quarantined_and_comes_back(tmp_path: Path) -> None:
    settings = {"rounds": 6, "quorum": 0.5, "defence": {"quarantine": 2, "norm": 20.0}}
    job = Job(fakes.experiment(**settings), tmp_path)
    fakes.play(job, Hostile(torch.full((3,), 1e6), {2}))
    found = refused(job)
    assert "1.73e+06, 20 times the median" in found[2]["site1"]
    assert "is not asked until round 5" in found[3]["site1"]
    assert sorted(found) == [2, 3, 4]
    trained = {
        line["round"]: {c["name"] for c in line["clients"]} for line in history.read(job.history)
    }
    assert "site1" in trained[5]


def test_the_median_bears_one_hostile_client(tmp_path: Path) -> None:
    federation = {"rounds": 60, "server": {"lr": 0.3, "optimizer": "sgd"}}
    found = {}
    for rule in ("mean", "median"):
        job = Job(fakes.experiment(**federation, defence={"rule": rule}), tmp_path / rule)
        fakes.play(job, Hostile(torch.full((3,), -50.0), set(range(1, 61))))
        snapshot = checkpoints.latest(job.out / "checkpoints", experiment_hash(job.experiment))
        assert snapshot is not None
        found[rule] = float(snapshot.theta["w"].mean())
    assert found["mean"] > 10
    assert -0.5 < found["median"] < 2.5


def straggling(
    job: Job, slow: float, app: Callable[[Message, Context], Message] = fakes.app
) -> list[dict[str, Any]]:
    delay = {0: slow}
    grid = DelayedGrid(
        app,
        fakes.SITES,
        lambda m: delay.get(m.content.config_records[CONFIG]["client"], 1.0),
    )
    fakes.play(job, grid)
    return history.read(job.history)


def test_a_slow_client_counts_when_it_is_ready(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"rounds": 12, "quorum": 0.5, "timeout": 60.0, "deadline": 2.0}
    lines = straggling(Job(fakes.experiment(**settings), tmp_path), slow=3.5)
    late = {line["round"]: line["late"] for line in lines if line["late"]}
    assert late
    assert all(
        name == "site0" and born < number
        for number, of in late.items()
        for name, born in of.items()
    )
    training = [line for line in lines if line["round"] and line["mean_image_auroc"] is None]
    assert all(line["seconds"] <= 2.1 for line in training)
    # It is busy in between, and is not asked again before it has answered.
    assert max(sum(c["name"] == "site0" for c in line["clients"]) for line in training) == 0


def test_a_late_update_may_be_too_long_as_well(tmp_path: Path) -> None:
    def enlarged(message: Message, context: Context) -> Message:
        reply = fakes.app(message, context)
        if message.metadata.message_type == "train" and context.node_config["partition-id"] == 0:
            arrays = arrays_of(reply)
            reply.content[ARRAYS] = pack({name: 1e4 * t for name, t in arrays.items()})
        return reply

    settings: dict[str, Any] = {"rounds": 12, "quorum": 0.5, "timeout": 60.0, "deadline": 2.0}
    of = fakes.experiment(**settings, defence={"norm": 3.0})
    lines = straggling(Job(of, tmp_path), slow=3.5, app=enlarged)
    assert all(not line["late"] for line in lines)
    said = [line["refused"].get("site0", "") for line in lines]
    assert any("the update's norm is" in why for why in said)


def test_without_a_deadline_a_round_waits(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"timeout": 60.0}
    lines = straggling(Job(fakes.experiment(**settings), tmp_path), slow=3.5)
    training = [line for line in lines if line["round"] in (1, 3)]
    assert all(3.4 < line["seconds"] < 3.7 for line in training)
    assert all(not line["late"] for line in lines)


class Clogged(DelayedGrid):
    """The first look in a round of training takes until its end, and finds nothing."""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        asked = list(messages)
        self.clogged = any(m.metadata.message_type == "train" for m in asked)
        return super().push_messages(asked)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        if self.clogged:
            self.clogged = False
            self.clock.sleep(2.5)
            return []
        return super().pull_messages(message_ids)


def test_what_came_in_time_is_taken_though_another_reply_was_waited_for(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"timeout": 60.0, "deadline": 2.0}
    job = Job(fakes.experiment(**settings), tmp_path)
    fakes.play(job, Clogged(fakes.app, fakes.SITES, lambda _: 1.0))
    assert refused(job) == {}
    assert all(not line["late"] for line in history.read(job.history))


def test_a_message_that_is_never_answered_is_given_up(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"rounds": 12, "quorum": 0.5, "timeout": 6.0, "deadline": 2.0}
    job = Job(fakes.experiment(**settings), tmp_path, measures=False)
    lines = straggling_in_training(job, slow=1e9)
    absent = {line["round"]: line["absent"].get("site0", 0) for line in lines}
    assert max(absent.values()) >= 2
    asked = [line["round"] for line in lines if "no reply" in line["refused"].get("site0", "")]
    assert asked[0] == 1
    assert all(b - a >= 2 for a, b in itertools.pairwise(asked))


def straggling_in_training(job: Job, slow: float) -> list[dict[str, Any]]:
    def delay(message: Message) -> float:
        config: ConfigRecord = message.content.config_records[CONFIG]
        return slow if config["client"] == 0 and message.metadata.message_type == "train" else 1.0

    fakes.play(job, DelayedGrid(fakes.app, fakes.SITES, delay))
    return history.read(job.history)


class Repeating(InProcessGrid):
    """Delivers every reply twice, and all earlier ones again."""

    def __init__(self) -> None:
        super().__init__(fakes.app, fakes.SITES)
        self.sent: list[Message] = []

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        fresh = list(super().pull_messages(message_ids))
        self.sent += fresh
        return [*self.sent, *fresh]


def test_replies_that_come_again_count_once(tmp_path: Path) -> None:
    once, again = (Job(fakes.experiment(), tmp_path / name) for name in ("once", "again"))
    fakes.play(once)
    fakes.play(again, Repeating())
    left, right = (
        [history.without_times(line) for line in history.read(job.history)] for job in (once, again)
    )
    assert left == right


def test_a_full_disk_ends_the_run_in_one_line_and_it_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = Job(fakes.experiment(), tmp_path / "whole"), tmp_path / "parts"
    fakes.play(whole)
    write = checkpoints.write_atomic

    def full(path: Path, data: bytes) -> None:
        if path.name == "round-00003.safetensors":
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(checkpoints, "write_atomic", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*can be resumed"):
        fakes.play(Job(fakes.experiment(), parts))
    monkeypatch.setattr(checkpoints, "write_atomic", write)
    resumed = Job(fakes.experiment(), parts, resume=True)
    fakes.play(resumed)
    left, right = (
        [history.without_times(line) for line in history.read(job.history)]
        for job in (whole, resumed)
    )
    assert left == right


def test_a_rule_that_cannot_bear_so_many_begins_no_run(tmp_path: Path) -> None:
    defence = {"rule": "multi_krum", "hostile": 2}
    job = Job(fakes.experiment(defence=defence), tmp_path)
    with pytest.raises(ConfigError, match="bears 2 of 7 clients or more, a round has 3"):
        fakes.play(job)
    assert not (tmp_path / "checkpoints").exists()
