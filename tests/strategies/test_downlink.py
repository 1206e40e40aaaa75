from __future__ import annotations

from pathlib import Path

import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict

from bayfed.config import experiment_hash
from bayfed.errors import ConfigError, FederationError
from experiments.inprocess import flower_identity
from server import checkpoints
from server.job import Job
from strategies.downlink import Downlink, receive
from strategies.task import Params
from strategies.wire import CHANGE, Member, instruction, pack
from tests import fakes

RATES = {"fixed": 0.0}
A, B = Member(0, "a", 1), Member(1, "b", 2)


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)


def theta(number: int) -> Params:
    return {"w": torch.linspace(0, number, 300), "fixed": torch.ones(2)}


def last(job: Job) -> checkpoints.Snapshot:
    snapshot = checkpoints.latest(job.out / "checkpoints", experiment_hash(job.experiment))
    assert snapshot is not None
    return snapshot


class Client:
    """Receives what a server sends to one member, and keeps what it is to keep."""

    def __init__(self, member: Member, bits: int) -> None:
        self.member, self.bits, self.memory = member, bits, Params()

    def take(self, server: Downlink, value: Params, number: int) -> tuple[Params, bool]:
        with flower_identity():
            records = server.records(self.member, pack(value))
            message = Message(RecordDict({**records}), self.member.node, "train")
        found, self.memory = receive(message, self.memory, self.bits, RATES, number)
        return found, CHANGE in records


@pytest.mark.parametrize("bits", [2, 8, 32])
def test_all_clients_train_from_the_same_whoever_was_away(bits: int) -> None:
    server, a, b = Downlink(bits, RATES), Client(A, bits), Client(B, bits)
    for number in range(1, 8):
        value = server.prepare(theta(number), number)
        here = [a] if number in (3, 4) else [a, b]
        for client in here:
            found, changed = client.take(server, value, number)
            assert all(torch.equal(found[name], value[name]) for name in value)
            assert changed == (bits < 32 and number > 1 and not (client is b and number == 5))
        server.answered({client.member.name for client in here})


def test_what_is_rounded_away_does_not_add_up() -> None:
    server, goal = Downlink(4, RATES), theta(9)
    server.prepare(theta(0), 1)
    gaps = [float((server.prepare(goal, n)["w"] - goal["w"]).abs().max()) for n in range(2, 20)]
    assert gaps[-1] < 1e-5 < gaps[0]


def test_a_client_that_lost_the_last_parameters_says_so() -> None:
    server, a = Downlink(8, RATES), Client(A, 8)
    a.take(server, server.prepare(theta(1), 1), 1)
    server.answered({"a"})
    a.memory = {}
    with pytest.raises(FederationError, match="before round 2 are not here"):
        a.take(server, server.prepare(theta(2), 2), 2)
    server.answered(set())
    assert not a.take(server, server.prepare(theta(3), 3), 3)[1]


@pytest.mark.parametrize("federation", [{"downlink": {"bits": 8}}, {"uplink": {"bits": 8}}])
def test_few_bits_do_for_a_whole_run(tmp_path: Path, federation: dict[str, object]) -> None:
    settings = {"rounds": 60, "server": {"lr": 0.3, "optimizer": "sgd"}, **federation}
    job = Job(fakes.experiment(**settings), tmp_path)
    fakes.play(job)
    torch.testing.assert_close(last(job).theta["w"], torch.ones(3), atol=0.1, rtol=0)


def test_a_resumed_run_with_few_bits_down_is_the_same(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = {"downlink": {"bits": 4}}
    fakes.play(Job(fakes.experiment(**settings), whole))
    fakes.play(Job(fakes.experiment(**settings, rounds=2), parts))
    fakes.play(Job(fakes.experiment(**settings), parts, resume=True))
    left, right = Job(fakes.experiment(**settings), whole), Job(fakes.experiment(**settings), parts)
    assert torch.equal(last(left).theta["w"], last(right).theta["w"])


def test_residuals_cannot_be_sent_as_one_change() -> None:
    with pytest.raises(ConfigError, match="each client is sent other parameters"):
        fakes.experiment(downlink={"bits": 8}, personal=["w"])


def test_a_damaged_change_is_refused() -> None:
    server, a = Downlink(8, RATES), Client(A, 8)
    a.take(server, server.prepare(theta(1), 1), 1)
    with flower_identity():
        bad = pack({"codes": torch.zeros(3, dtype=torch.uint8), "scales": torch.ones(2)})
        message = instruction(A, "train", {CHANGE: bad}, ConfigRecord({}))
    with pytest.raises(FederationError, match="cannot be read: 3 bytes"):
        receive(message, a.memory, 8, RATES, 2)
