from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bayfed.config import parse_experiment
from bayfed.errors import FederationError
from experiments import simulation
from server.job import Job


class FakeHome:
    def __init__(self, folder: Path, status: str) -> None:
        self.folder, self.app, self.log, self.status = folder, folder, folder / "log", status
        self.commands: list[list[str]] = []

    def call(self, command: list[str]) -> str:
        self.commands.append(command)
        if command[1] == "log":
            return "ImportError: nothing\n"
        if command[1] == "run":
            return json.dumps({"run-id": "7"} if self.status else {"error-message": "too\nold"})
        return json.dumps({"runs": [{"status": self.status}]})


class FakeSuperLink:
    def __init__(self, answers: list[bool], code: int | None = None) -> None:
        self.answers, self.process, self.code = answers, self, code

    def poll(self) -> int | None:
        return self.code

    def runs(self, program: str) -> bool:
        assert program == "flwr-simulation"
        return self.answers.pop(0) if self.answers else False


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(parse_experiment({"federation": {"workers": 8, "gpu_share": 0.25}}), tmp_path)


def conclude(job: Job, **outcome: str) -> None:
    job.outcome.write_text(json.dumps(outcome))


def check(job: Job, status: str) -> None:
    simulation.check(FakeHome(job.out, status), job, "7")  # type: ignore[arg-type]


def wait(job: Job, superlink: Any) -> None:
    simulation.wait(superlink, job, "flwr-simulation")


def test_a_run_has_completed_if_both_say_so(job: Job) -> None:
    conclude(job, status="completed")
    check(job, "finished:completed")
    with pytest.raises(FederationError, match="ended as finished:failed"):
        check(job, "finished:failed")


def test_flower_alone_is_not_believed(job: Job) -> None:
    with pytest.raises(FederationError, match="ended as finished:completed"):
        check(job, "finished:completed")
    assert "ImportError: nothing" in (job.out / "log").read_text()


def test_the_reason_is_the_servers(job: Job) -> None:
    conclude(job, status="failed", reason="round 3: site1: x.png: cannot be read")
    with pytest.raises(FederationError, match=r"^round 3: site1: x\.png: cannot be read$"):
        check(job, "finished:completed")


def test_a_run_that_the_server_calls_failed_is_not_waited_for(job: Job) -> None:
    conclude(job, status="failed", reason="why")
    superlink = FakeSuperLink([True] * 5)
    wait(job, superlink)
    assert len(superlink.answers) == 4


def test_waiting_ends_with_the_process_of_the_run(job: Job) -> None:
    superlink = FakeSuperLink([False, True, True, False])
    wait(job, superlink)
    assert superlink.answers == []


def test_a_superlink_that_is_gone_ends_the_wait(job: Job) -> None:
    with pytest.raises(FederationError, match="SuperLink is gone"):
        wait(job, FakeSuperLink([], code=1))


def test_a_program_that_is_needed_and_gone_ends_the_wait(job: Job) -> None:
    def gone() -> None:
        raise FederationError("superexec has ended")

    with pytest.raises(FederationError, match="superexec has ended"):
        simulation.wait(FakeSuperLink([True] * 9), job, "flwr-simulation", gone)  # type: ignore[arg-type]


def test_a_run_that_never_starts_ends_the_wait(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "_GRACE", 0.1)
    with pytest.raises(FederationError, match=r"did not start the run within 0\.1 s"):
        wait(job, FakeSuperLink([]))


def test_what_flower_cannot_start_leaves_an_outcome(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise FederationError("Flower's SuperLink did not start, see flower.log")

    monkeypatch.setattr(simulation, "start_superlink", fail)
    with pytest.raises(FederationError) as caught:
        simulation.simulate(job, 2)
    reason = json.loads(job.outcome.read_text())
    assert reason == {"status": "failed", "reason": str(caught.value)}


def test_there_are_no_more_actors_than_clients(job: Job) -> None:
    options = simulation.simulation_options(job, clients=3)
    assert "num-supernodes=3" in options
    assert "init-args-num-cpus=3" in options
    assert "client-resources-num-gpus=0.25" in options


def test_a_run_that_flower_refuses_is_one_line(job: Job) -> None:
    home = FakeHome(job.out, status="")
    with pytest.raises(FederationError, match="did not accept the run: too old"):
        simulation.submit(home, job)  # type: ignore[arg-type]
