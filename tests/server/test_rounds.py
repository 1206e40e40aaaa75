from __future__ import annotations

import errno
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Error, Message, MetricRecord

from bayfed.config import experiment_hash
from bayfed.errors import BayfedError, CheckpointError, ConfigError, FederationError
from bayfed.evaluation.atomic import write_atomic
from bayfed.evaluation.table import read_rows
from experiments.inprocess import InProcessGrid
from server import app, checkpoints, history, outcome
from server import job as server_job
from server.job import Job
from strategies.wire import ARRAYS, CONFIG, ERROR, INFO, METRICS, pack
from tests import fakes

Damage = Callable[[Message, Message], Message | None]


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)


class Faulty(InProcessGrid):
    """Passes the replies of one client to one kind of message through ``damage``."""

    def __init__(self, damage: Damage, client: int = 1, kind: str = "train", at: int = 2) -> None:
        super().__init__(fakes.app, fakes.SITES)
        self.damage, self.meant = damage, (client, kind, at)

    def deliver(self, message: Message) -> Message | None:
        reply = super().deliver(message)
        config = message.content.config_records[CONFIG]
        found = (config["client"], message.metadata.message_type, config["round"])
        assert reply is not None
        return self.damage(message, reply) if found == self.meant else reply


class Interrupted(InProcessGrid):
    """Is interrupted at the first message of a kind and a round."""

    def __init__(self, kind: str, at: int) -> None:
        super().__init__(fakes.app, fakes.SITES)
        self.meant = (kind, at)

    def deliver(self, message: Message) -> Message | None:
        config = message.content.config_records[CONFIG]
        if (message.metadata.message_type, config["round"]) == self.meant:
            raise KeyboardInterrupt
        return super().deliver(message)


def with_nan(_: Message, reply: Message) -> Message:
    reply.content[ARRAYS] = pack({"w": torch.full((3,), torch.nan), "b": torch.zeros(2)})
    return reply


def without_a_tensor(_: Message, reply: Message) -> Message:
    reply.content[ARRAYS] = pack({"w": torch.zeros(3)})
    return reply


def of_another(_: Message, reply: Message) -> Message:
    reply.content[METRICS] = MetricRecord({**reply.content[METRICS], "partition": 0})
    return reply


def raising(_: Message, reply: Message) -> Message:
    reply.content[ERROR] = ConfigRecord({"name": "site1", "message": "x.png: cannot be read"})
    return reply


def node_gone(message: Message, _: Message) -> Message:
    return Message(Error(5, "Node\nunavailable"), reply_to=message)


def silent(*_: Any) -> None:
    return None


def actor_died(message: Message, _: Message) -> Message:
    return Message(Error(0, "<class 'ray.exceptions.ActorDiedError'>: ..."), reply_to=message)


def lines(job: Job) -> list[dict[str, Any]]:
    return [history.without_times(line) for line in history.read(job.history)]


def last(job: Job) -> checkpoints.Snapshot:
    snapshot = checkpoints.latest(job.out / "checkpoints", experiment_hash(job.experiment))
    assert snapshot is not None
    return snapshot


def same(left: Job, right: Job) -> bool:
    a, b = last(left), last(right)
    tensors = all(
        torch.equal(getattr(a, group)[name], tensor)
        for group in checkpoints.GROUPS
        for name, tensor in getattr(b, group).items()
    )
    return tensors and lines(left) == lines(right) and rows(left) == rows(right)


def rows(job: Job) -> list[tuple[Any, ...]]:
    return [(r.arm, r.round, r.site, r.draw, r.image_auroc, r.ece) for r in read_rows(job.results)]


def test_a_run_leaves_all_of_its_files(tmp_path: Path) -> None:
    job = Job(fakes.experiment(), tmp_path / "run")
    fakes.play(job)
    assert json.loads(job.outcome.read_text()) == {"status": "completed", "reason": ""}
    assert [line["round"] for line in lines(job)] == [0, 1, 2, 3, 4]
    assert len(list(job.out.glob("checkpoints/round-*.safetensors"))) == 5
    assert {(r[0], r[1]) for r in rows(job)} == {("none", 0), ("federated", 2), ("federated", 4)}
    assert not list(job.out.rglob("*.tmp")) + list(job.out.rglob("*.partial"))


def test_evaluate_only_clients_never_train_and_are_evaluated(tmp_path: Path) -> None:
    job = Job(fakes.experiment(), tmp_path)
    fakes.play(job)
    trained = {client["name"] for line in lines(job) for client in line["clients"]}
    assert trained == {"site0", "site1", "site2"}
    assert {row[2] for row in rows(job)} == {"site0", "site1", "site2", "site3"}


def test_training_goes_to_the_mean_of_the_clients(tmp_path: Path) -> None:
    federation = {"rounds": 60, "server": {"lr": 0.3, "optimizer": "sgd"}}
    job = Job(fakes.experiment(**federation), tmp_path)
    fakes.play(job)
    torch.testing.assert_close(last(job).theta["w"], torch.ones(3), atol=0.1, rtol=0)


def test_each_client_comes_to_itself_where_it_has_a_residual(tmp_path: Path) -> None:
    federation = {"rounds": 60, "server": {"lr": 0.3, "optimizer": "sgd"}, "personal": ["w"]}
    job = Job(fakes.experiment(**federation), tmp_path)
    fakes.play(job)
    snapshot = last(job)
    # from 0 on both step along the gradients' mean, so each goes half of the way to it
    torch.testing.assert_close(snapshot.theta["w"], torch.full((3,), 0.5), atol=0.1, rtol=0)
    for client in range(3):
        goal = torch.full((3,), float(client))
        torch.testing.assert_close(snapshot.theta_of(f"site{client}")["w"], goal, atol=0.1, rtol=0)
    # who does not train has nothing of its own, and is evaluated with what is shared
    assert torch.equal(snapshot.theta_of("site3")["w"], snapshot.theta["w"])
    auroc = {row[2]: row[4] for row in rows(job) if row[1] == 60}
    assert min(auroc["site0"], auroc["site2"]) > 0.8 > auroc["site3"]


def test_a_damaged_residual_is_refused(tmp_path: Path) -> None:
    theta = {"w": torch.zeros(3), "b": torch.zeros(2)}
    for personal in ({"site0/w": torch.zeros(4)}, {"site0/v": torch.zeros(3)}):
        wrong = checkpoints.Snapshot(0, theta, {}, personal)
        path = checkpoints.write(tmp_path, wrong, "identity")
        with pytest.raises(CheckpointError, match="a client's own parameters"):
            checkpoints.read(path, "identity")


def test_the_first_round_by_hand(tmp_path: Path) -> None:
    server = {"lr": 0.5, "optimizer": "sgd", "aggregate": "parameters", "local_lr": 1.0}
    job = Job(fakes.experiment(rounds=1, server=server), tmp_path)
    fakes.play(job)
    means = []
    for client in range(3):
        toy = fakes.ToyFactory(0, client, 8)
        means.append(toy.batch(1, 0).mean(dim=0))
    # theta = 0, one local step of rate 1 lands on the batch mean
    torch.testing.assert_close(last(job).theta["w"], 0.5 * torch.stack(means).mean(dim=0))


@pytest.mark.parametrize("personal", [(), ("w",)])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "yogi"])
@pytest.mark.parametrize("halt", [("train", 1), ("train", 3), ("evaluate", 2), ("evaluate", 4)])
def test_a_resumed_run_equals_the_uninterrupted_one(
    tmp_path: Path, optimizer: str, halt: tuple[str, int], personal: tuple[str, ...]
) -> None:
    server = {"lr": 0.1, "optimizer": optimizer, "momentum": 0.5, "memory": 0.8 * bool(personal)}
    settings = {"server": server, "fraction": 0.7, "personal": personal}
    whole = Job(fakes.experiment(**settings), tmp_path / "a" / "run")
    fakes.play(whole)
    halted = Job(whole.experiment, tmp_path / "b" / "run")
    with pytest.raises(KeyboardInterrupt):
        fakes.play(halted, Interrupted(*halt))
    assert json.loads(halted.outcome.read_text())["status"] == "interrupted"
    fakes.play(Job(halted.experiment, halted.out, resume=True))
    assert same(whole, halted)


def test_a_run_halted_before_its_first_checkpoint_starts_anew(tmp_path: Path) -> None:
    whole = Job(fakes.experiment(rounds=1), tmp_path / "a" / "run")
    fakes.play(whole)
    halted = Job(whole.experiment, tmp_path / "b" / "run")
    with pytest.raises(KeyboardInterrupt):
        fakes.play(halted, Interrupted("evaluate", 0))
    fakes.play(Job(halted.experiment, halted.out, resume=True))
    assert same(whole, halted)


def test_rows_and_lines_beyond_the_checkpoint_are_cut_off(tmp_path: Path) -> None:
    job = Job(fakes.experiment(), tmp_path / "run")
    fakes.play(job)
    before = lines(job), rows(job)
    for number in (3, 4):
        checkpoints.path_of(job.out / "checkpoints", number).unlink()
    fakes.play(Job(job.experiment, job.out, resume=True))
    assert (lines(job), rows(job)) == before


def test_a_finished_run_can_be_prolonged(tmp_path: Path) -> None:
    job = Job(fakes.experiment(rounds=2), tmp_path / "run")
    fakes.play(job)
    fakes.play(Job(fakes.experiment(rounds=3), job.out, resume=True))
    assert last(job).round == 3


def test_a_run_that_goes_on_for_no_more_rounds_was_evaluated(tmp_path: Path) -> None:
    job = Job(fakes.experiment(rounds=4), tmp_path / "run")
    fakes.play(job)
    fakes.play(Job(job.experiment, job.out, resume=True))
    checkpoints.path_of(job.out / "checkpoints", 4).unlink()
    shorter = Job(fakes.experiment(rounds=3), job.out, resume=True)
    with pytest.raises(ConfigError, match="3 are done and the last was not evaluated"):
        fakes.play(shorter)
    fakes.play(Job(job.experiment, job.out, resume=True))
    with pytest.raises(ConfigError, match=r"federation\.rounds: 3, but 4 are done$"):
        fakes.play(shorter)


def test_the_number_of_nodes_changes_nothing(tmp_path: Path) -> None:
    runs = [Job(fakes.experiment(), tmp_path / str(n) / "run") for n in (1, 4)]
    for job, nodes in zip(runs, (1, 4), strict=True):
        fakes.play(job, InProcessGrid(fakes.app, nodes))
    assert same(*runs)


def test_global_random_state_changes_nothing_and_is_left_alone(tmp_path: Path) -> None:
    runs = [Job(fakes.experiment(fraction=0.4), tmp_path / n / "run") for n in "ab"]
    for seed, job in enumerate(runs):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        state = random.getstate()
        fakes.play(job)
        assert random.getstate() == state
    assert same(*runs)
    assert {len(line["clients"]) for line in lines(runs[0])[1:]} == {2}


def test_statistics_are_summed_over_training_clients_only(tmp_path: Path) -> None:
    prior = {"method": {"prior": {"init": "empirical-bayes"}}}
    settings = {**fakes.experiment(rounds=0).model_dump(), **prior}
    job = Job(type(fakes.experiment()).model_validate(settings), tmp_path)
    fakes.play(job)
    snapshot = last(job)
    assert int(snapshot.statistics["n"]) == 30
    torch.testing.assert_close(snapshot.theta["w"], torch.full((3,), 1.0))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (with_nan, "tensor 'w' holds NaN or Inf"),
        (without_a_tensor, "tensor 'b' is missing"),
        (of_another, "not from client 1"),
        (raising, "x.png: cannot be read"),
        (node_gone, "Node unavailable"),
        (silent, "no reply in time"),
    ],
)
class TestABadReply:
    def test_fails_the_run_and_names_the_client(
        self, tmp_path: Path, damage: Damage, reason: str
    ) -> None:
        job = Job(fakes.experiment(timeout=0.2), tmp_path)
        with pytest.raises(FederationError, match="site1") as caught:
            fakes.play(job, Faulty(damage))
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)
        assert json.loads(job.outcome.read_text())["reason"] == str(caught.value)
        assert last(job).round == 1
        assert [line["round"] for line in lines(job)] == [0, 1]

    def test_counts_as_missing_where_the_quorum_allows_it(
        self, tmp_path: Path, damage: Damage, reason: str
    ) -> None:
        job = Job(fakes.experiment(timeout=0.2, quorum=0.6), tmp_path)
        fakes.play(job, Faulty(damage))
        line = lines(job)[2]
        assert reason in line["refused"]["site1"]
        assert (line["sampled"], line["replies"]) == (3, 2)
        assert {client["name"] for client in line["clients"]} == {"site0", "site2"}


def test_all_clients_gone_fails_the_run_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    class Gone(InProcessGrid):
        def deliver(self, message: Message) -> Message | None:
            gone = message.content.config_records[CONFIG]["round"] == 2
            return None if gone else super().deliver(message)

    job = Job(fakes.experiment(timeout=0.1, quorum=0.1), tmp_path)
    with pytest.raises(FederationError, match="0 of 3 clients answered"):
        fakes.play(job, Gone(fakes.app, fakes.SITES))
    assert last(job).round == 1
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


def test_a_dead_worker_ends_the_run_whatever_the_quorum(tmp_path: Path) -> None:
    job = Job(fakes.experiment(quorum=0.1), tmp_path)
    with pytest.raises(FederationError, match="Ray worker died"):
        fakes.play(job, Faulty(actor_died))


def test_a_simulated_client_that_stays_silent_ends_the_run(tmp_path: Path) -> None:
    class Hanging(InProcessGrid):
        def deliver(self, message: Message) -> Message | None:
            config = message.content.config_records[CONFIG]
            hangs = message.metadata.message_type == "train" and config["client"] == 1
            return None if hangs else super().deliver(message)

    job = Job(fakes.experiment(timeout=0.1, quorum=0.5), tmp_path)
    with pytest.raises(FederationError, match="no reply twice in a row from site1"):
        fakes.play(job, Hanging(fakes.app, fakes.SITES))
    assert last(job).round == 1


@pytest.mark.parametrize(
    ("rows_text", "reason"),
    [
        ('[{"method": "toy"}]', "missing"),
        ('[{"run": "mine"}]', "column 'run' is not expected"),
        ('[{"image_auroc": NaN}]', "NaN is not a number"),
        ('[{"image_auroc": "high"}]', "image_auroc is 'high'"),
        ("{}", "a list of rows"),
        ("not json", "not JSON"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, rows_text: str, reason: str) -> None:
    def damage(_: Message, reply: Message) -> Message:
        reply.content[INFO] = ConfigRecord({**reply.content[INFO], "rows": rows_text})
        return reply

    job = Job(fakes.experiment(), tmp_path)
    with pytest.raises(FederationError, match=reason):
        fakes.play(job, Faulty(damage, kind="evaluate", at=0))
    assert not job.results.exists()


def test_sums_of_different_shape_are_not_added(tmp_path: Path) -> None:
    def damage(_: Message, reply: Message) -> Message:
        wrong = {"count": torch.zeros(7, dtype=torch.int64), "sum": torch.zeros(()).double()}
        reply.content[ARRAYS] = pack(wrong)
        return reply

    job = Job(fakes.experiment(), tmp_path)
    with pytest.raises(FederationError, match=r"site1: tensor 'count' has shape \(7,\)"):
        fakes.play(job, Faulty(damage, kind="query.calibrate", at=0))


def test_unreadable_data_fails_the_run_before_it_starts(tmp_path: Path) -> None:
    broken = fakes.experiment().model_copy(update={"name": "unreadable-2"})
    job = Job(broken, tmp_path)
    with pytest.raises(FederationError, match=r"client 2: site2/broken\.png: cannot be read"):
        fakes.play(job)
    assert not job.results.exists()
    assert not job.history.exists()


def test_wrong_settings_fail_a_simulation_before_anyone_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Any) -> None:
        raise ConfigError("backbone.name: unknown backbone 'x'")

    class Untouched(InProcessGrid):
        def deliver(self, _: Message) -> Message | None:
            pytest.fail("a client is asked")

    monkeypatch.setattr(fakes.sys.modules["clients.factory"], "check_settings", refuse)
    job = Job(fakes.experiment(), tmp_path)
    with pytest.raises(ConfigError, match=r"^backbone\.name: unknown backbone 'x'$"):
        fakes.play(job, Untouched(fakes.app, fakes.SITES))
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.yaml", "outcome.json", "server.log"
    }  # fmt: skip


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    job = Job(fakes.experiment(rounds=0), tmp_path)
    fakes.play(job)
    with pytest.raises(ConfigError, match="holds a run already"):
        fakes.play(job)


def test_a_checkpoint_of_another_experiment_is_refused(tmp_path: Path) -> None:
    fakes.play(Job(fakes.experiment(rounds=1), tmp_path))
    other = fakes.experiment(episodes=3)
    with pytest.raises(CheckpointError, match="other settings"):
        fakes.play(Job(other, tmp_path, resume=True))


def test_parameters_that_leave_the_finite_numbers_end_the_run(tmp_path: Path) -> None:
    server = {"lr": 1e38, "optimizer": "sgd", "momentum": 0.9}
    job = Job(fakes.experiment(rounds=9, server=server), tmp_path)
    with pytest.raises(BayfedError):
        fakes.play(job)
    assert all(torch.isfinite(value).all() for value in last(job).theta.values())


@pytest.mark.parametrize("last_file", ["", "config.yaml", "round-00001.safetensors"])
def test_a_disk_that_is_full_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last_file: str
) -> None:
    full = not last_file

    def write(path: Path, data: bytes) -> None:
        nonlocal full
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomic(path, data)
        full = path.name == last_file

    for module in (app, checkpoints, outcome, server_job):
        monkeypatch.setattr(module, "write_atomic", write)
    job = Job(fakes.experiment(), tmp_path / "run")
    with pytest.raises(BayfedError, match=r"cannot be written \(No space left on device"):
        fakes.play(job)
    assert outcome.read(job.outcome) == {}
    assert len(list((job.out / "checkpoints").glob("*"))) == 2 * last_file.startswith("round")
    monkeypatch.undo()
    fakes.install(monkeypatch)
    fakes.play(Job(job.experiment, job.out, resume=True))
    assert outcome.read(job.outcome)["status"] == outcome.COMPLETED


def test_an_error_of_the_program_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr(fakes.sys.modules["clients.factory"], "initial_parameters", fail)
    job = Job(fakes.experiment(), tmp_path)
    with pytest.raises(FederationError, match="ZeroDivisionError: a b"):
        fakes.play(job)


def test_a_job_that_measures_nothing_trains_the_same(tmp_path: Path) -> None:
    whole = Job(fakes.experiment(), tmp_path / "whole")
    fakes.play(whole)
    blind = Job(whole.experiment, tmp_path / "blind", measures=False)
    fakes.play(blind)
    assert not blind.results.exists()
    assert last(blind).calibration == {}
    assert torch.equal(last(blind).theta["w"], last(whole).theta["w"])


def test_a_job_can_start_where_another_has_ended(tmp_path: Path) -> None:
    first = Job(fakes.experiment(rounds=2), tmp_path / "first")
    fakes.play(first)
    ended = checkpoints.path_of(first.out / "checkpoints", 2)
    second = Job(fakes.experiment(rounds=1), tmp_path / "second", start=ended)
    fakes.play(second)
    begun = checkpoints.read(checkpoints.path_of(second.out / "checkpoints", 0), None)
    assert torch.equal(begun.theta["w"], last(first).theta["w"])
    assert not torch.equal(last(second).theta["w"], begun.theta["w"])


def test_who_goes_on_alone_goes_on_with_its_own_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Job(fakes.experiment(personal=["w"]), tmp_path / "first")
    fakes.play(first)
    ended = checkpoints.path_of(first.out / "checkpoints", 4)
    monkeypatch.setattr(fakes, "SITES", 1)
    fakes.install(monkeypatch)
    alone = Job(fakes.experiment(rounds=0), tmp_path / "alone", measures=False, start=ended)
    fakes.play(alone)
    assert torch.equal(last(alone).theta["w"], last(first).theta_of("site0")["w"])
    assert not torch.equal(last(alone).theta["w"], last(first).theta["w"])


def test_a_start_that_does_not_fit_is_named(tmp_path: Path) -> None:
    other = checkpoints.Snapshot(0, {"w": torch.zeros(4), "b": torch.zeros(2)}, {})
    path = checkpoints.write(tmp_path / "other", other, "identity")
    with pytest.raises(CheckpointError, match=r"round-00000.*'w' has shape \(4,\)"):
        fakes.play(Job(fakes.experiment(), tmp_path / "run", start=path))
