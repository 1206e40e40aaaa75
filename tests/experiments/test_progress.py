from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from experiments.progress import Tail, follow
from server import history, phase
from server.job import FILES, Job
from tests import fakes


def test_a_line_is_seen_once_and_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert tail.lines() == []
    path.write_text('{"round": 0}\n{"rou')
    assert tail.lines() == [{"round": 0}]
    assert tail.lines() == []
    path.write_text('{"round": 0}\n{"round": 1}\n')
    assert tail.lines() == [{"round": 1}]


def test_a_history_that_was_cut_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    path.write_text('{"round": 0}\n{"round": 1}\n')
    tail.lines()
    path.write_text('{"round": 0}\n')
    assert tail.lines() == [{"round": 0}]


def test_the_bar_shows_the_last_round(tmp_path: Path) -> None:
    job, text = Job(fakes.experiment(rounds=2), tmp_path), io.StringIO()
    with follow(job, Console(file=text, width=120)):
        for number in range(3):
            line = {"round": number, "loss": 0.5, "bytes_up": 1, "bytes_down": 2}
            history.append(job.history, line)
    assert "2/2" in text.getvalue()
    assert "loss 0.5000" in text.getvalue()


def test_before_the_first_round_the_bar_shows_what_is_waited_for(tmp_path: Path) -> None:
    job, text = Job(fakes.experiment(rounds=2), tmp_path), io.StringIO()
    phase.write(job.phase, "round 7", 0, 1)  # of a run that was killed
    with follow(job, Console(file=text, width=120)):
        assert phase.read(job.phase) == ""
        phase.write(job.phase, "opening the data", 3, 11)
    assert text.getvalue().startswith("opening the data 3/11 ")
    assert not job.phase.exists()


def test_a_phase_that_is_half_written_is_no_phase(tmp_path: Path) -> None:
    job = Job(fakes.experiment(), tmp_path)
    assert phase.read(job.phase) == ""
    job.phase.write_text("opening the da")
    assert phase.read(job.phase) == ""


def test_the_server_says_what_it_waits_for_and_how_many_have_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.install(monkeypatch)
    told: list[tuple[str, int, int]] = []
    monkeypatch.setattr(phase, "write", lambda _, *said: told.append(said))
    job = Job(fakes.experiment(rounds=1), tmp_path)
    fakes.play(job)
    assert told[:2] == [("opening the data", 0, 4), ("opening the data", 4, 4)]
    assert ("round 1", 3, 3) in told
    assert told[-1] == ("evaluation of round 1", 4, 4)


def test_a_run_that_has_ended_waits_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.install(monkeypatch)
    job = Job(fakes.experiment(rounds=0), tmp_path)
    fakes.play(job)
    assert {path.name for path in tmp_path.iterdir()} <= FILES - {"phase.txt"}
