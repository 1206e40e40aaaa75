from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from bayfed.cli.signals import Stopped
from bayfed.config import Experiment
from bayfed.errors import FederationError
from deploy import federation, running
from deploy.layout import FederationFolder
from deploy.running import LostError
from deploy.settings import FederationSettings, Member, write_settings
from experiments.processes import Home
from server import outcome
from server.job import Job
from server.plants import Plant, Plants

COMPLETED, FAILED, DEAD = "completed", "failed", "dead"
REASON = "opening the data: 1 of 2 clients answered (node 77: no such folder)"


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[bool]]:
    """Return what runs a job through attempts that end as told, and says which resumed."""

    def call(*ends: str, out: Path = tmp_path / "run", most: int = 5) -> list[bool]:
        submitted: list[bool] = []
        plan = iter(ends)

        def submit(_: Home, job: Job) -> str:
            submitted.append(job.resume)
            end = next(plan)
            if end != DEAD:
                outcome.write(job.outcome, end, REASON if end == FAILED else "")
            return "7"

        lives = iter([end != DEAD for end in ends for _ in range(1)])
        superlink = SimpleNamespace(is_running=lambda: True)
        monkeypatch.setattr(running, "submit", submit)
        monkeypatch.setattr(running, "require_running", lambda _: None)
        monkeypatch.setattr(running, "program_of", lambda *_: superlink)
        monkeypatch.setattr(running, "_lives", lambda _: next(lives, True))
        monkeypatch.setattr(running, "_home", lambda *_: Home(tmp_path, tmp_path / "log", ""))
        monkeypatch.setattr(running, "_await_plants", lambda *_: None)
        write_settings(FederationSettings(), FederationFolder(tmp_path).settings_file)
        monkeypatch.setattr(federation, "is_up", lambda _: True)
        monkeypatch.setattr(federation, "check_certificates", lambda _: None)
        job = Job(Experiment(), out)
        running.run(FederationFolder(tmp_path), job, lambda _: None, most, 0.0)
        return submitted

    return call


def test_a_run_that_completes_is_submitted_once(attempts: Callable[..., list[bool]]) -> None:
    assert attempts(COMPLETED) == [False]


def test_a_run_that_has_lost_its_server_goes_on(
    attempts: Callable[..., list[bool]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    watched = iter([running.LostError("gone"), running.LostError("gone"), None])
    real = running._watch

    def watch(superlink: psutil.Process, job: Job) -> None:
        error = next(watched)
        if error is not None:
            job.outcome.unlink()
            raise error
        real(superlink, job)

    monkeypatch.setattr(running, "_watch", watch)
    assert attempts(COMPLETED, COMPLETED, COMPLETED) == [False, True, True]
    assert outcome.read(tmp_path / "run" / "outcome.json")["status"] == COMPLETED


def test_a_run_that_loses_its_server_again_and_again_is_given_up(
    attempts: Callable[..., list[bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def watch(_: psutil.Process, job: Job) -> None:
        job.outcome.unlink()
        raise running.LostError("the SuperLink is gone")

    monkeypatch.setattr(running, "_watch", watch)
    said = r"the SuperLink is gone \(attempt 3 of 3\); to go on, .* --resume --out .*run"
    with pytest.raises(FederationError, match=said):
        attempts(COMPLETED, COMPLETED, COMPLETED, most=3)


def test_a_run_that_fails_is_not_submitted_again(attempts: Callable[..., list[bool]]) -> None:
    with pytest.raises(FederationError, match="opening the data"):
        attempts(FAILED)


def test_a_plant_is_called_by_its_name(attempts: Callable[..., list[bool]], tmp_path: Path) -> None:
    folder = FederationFolder(tmp_path)
    folder.members.mkdir()
    member = Member(name="plant-b", partition=1, node=77, key="")
    write_settings(member, folder.members / "plant-b.yaml")
    with pytest.raises(FederationError, match=r"\(plant-b: no such folder\)"):
        attempts(FAILED)


def test_the_server_is_told_who_may_take_part(
    attempts: Callable[..., list[bool]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, told = FederationFolder(tmp_path), []
    folder.members.mkdir()
    member = Member(name="plant-b", partition=1, node=77, key="")
    write_settings(member, folder.members / "plant-b.yaml")
    real = running._attempt
    monkeypatch.setattr(running, "_attempt", lambda *a: (told.append(a[2].plants), real(*a)))
    attempts(COMPLETED)
    assert told == [Plants(3, {77: Plant(1, "plant-b")})]


def test_a_run_that_somebody_stops_is_stopped_at_the_superlink(
    attempts: Callable[..., list[bool]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    called: list[list[str]] = []

    def watch(_: psutil.Process, job: Job) -> None:
        job.outcome.unlink()
        raise Stopped(2)

    monkeypatch.setattr(running, "_watch", watch)
    monkeypatch.setattr(Home, "call", lambda _, command: called.append(command))
    with pytest.raises(Stopped):
        attempts(COMPLETED)
    assert called[0][:3] == ["flwr", "stop", "7"]
    assert outcome.read(tmp_path / "run" / "outcome.json")["status"] == "interrupted"


def test_a_server_that_can_write_nothing_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    superlink, server = object(), object()
    monkeypatch.setattr(running, "_server", lambda _: server)
    monkeypatch.setattr(running, "_lives", lambda process: process is superlink)
    job = Job(Experiment(), tmp_path)
    with pytest.raises(LostError, match="the server of the run is gone"):
        running._watch(superlink, job)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(outcome, "write_atomic", full)
    with pytest.raises(FederationError, match=r"cannot be written to \(No space left") as caught:
        running._watch(superlink, job)  # type: ignore[arg-type]
    assert not isinstance(caught.value, LostError)
