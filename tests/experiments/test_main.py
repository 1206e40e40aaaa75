from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bayfed
from bayfed.cli import main as module
from tests import fakes

TINY = str(Path(__file__).with_name("tiny.yaml"))


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bayfed", *words])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as caught:
        module.main()
    return int(caught.value.code or 0)


def test_the_version_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"bayfed {bayfed.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "nowhere"], "nowhere: neither a file nor"),
        (["run", TINY, "--set", "sed=1"], "unknown setting 'sed'"),
        (["run", TINY, "--resume"], "resume: the folder"),
        (["bench", "nowhere"], "nowhere: neither a file nor"),
        (["bench", TINY, "--methods", "a"], "no system is called 'a'"),
        (
            ["bench", TINY, "--methods", "patchcore", "--arms", "none,federated"],
            "patchcore cannot have the arm 'federated'",
        ),
        (["bench", TINY, "--resume"], "resume: the folder"),
        (["bench", TINY, "--shots", "x"], "bench.shots.0"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(monkeypatch, *words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("bayfed: error: ")
    assert message in lines[0]


def test_without_flower_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = module.find_spec
    monkeypatch.setattr(module, "find_spec", lambda n: None if n == "flwr" else found(n))
    assert command(monkeypatch, "run", "demo", "--set", "seed=1") == 2
    assert "pip install 'bayfed[federation]'" in capsys.readouterr().err


def test_without_the_app_the_command_says_where_to_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = module.find_spec
    hidden = {"experiments", module.FEDERATION}
    monkeypatch.setattr(module, "find_spec", lambda n: None if n in hidden else found(n))
    assert command(monkeypatch, "run", "demo") == 2
    assert "in a checkout" in capsys.readouterr().err


def test_a_run_in_process_shows_its_table_and_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fakes.install(monkeypatch)
    words = ["run", TINY, "--set", "federation.backend=inprocess", "--out", str(tmp_path / "run")]
    assert command(monkeypatch, *words) == 0
    shown = capsys.readouterr().out
    assert "site3" in shown
    assert "report.html" in shown
    assert (tmp_path / "run" / "report.html").stat().st_size > 1000


def test_a_run_that_fails_has_an_exit_code_and_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fakes.install(monkeypatch)
    settings = ["--set", "federation.backend=inprocess", "--set", "name=unreadable-1"]
    assert command(monkeypatch, "run", TINY, *settings, "--out", str(tmp_path / "run")) == 2
    assert "client 1: site1/broken.png: cannot be read" in capsys.readouterr().err


@pytest.fixture
def _signals() -> Iterator[None]:
    """Put the handlers back that a command has changed."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize(
    ("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_a_signal_ends_a_run_with_one_line_and_its_own_exit_code(
    number: int,
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Signalled(fakes.ToyFactory):
        def evaluate(self, *_: Any) -> list[dict[str, Any]]:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)  # an impatient user
            return []

    fakes.install(monkeypatch, Signalled)
    words = ["run", TINY, "--set", "federation.backend=inprocess", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["bayfed", *words])
    with pytest.raises(SystemExit) as caught:
        module.main()
    assert caught.value.code == 128 + number
    assert capsys.readouterr().err == f"bayfed: {word}\n"
    outcome = json.loads((tmp_path / "run" / "outcome.json").read_text())
    assert outcome == {"status": "interrupted", "reason": ""}
