from __future__ import annotations

import errno
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from bayfed.evaluation.atomic import write_atomic
from deploy import rejoin, supervisor
from deploy.layout import NodeFolder
from deploy.reasons import told
from deploy.supervisor import Program, Supervisor, delay, living, read_state


class Ended(BaseException):
    """Stands for the signal that ends a supervisor."""


@dataclass
class Fake:
    """A process that ends when it is told to."""

    pid: int
    code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.code = -15

    def create_time(self) -> float:
        return float(self.pid)


@dataclass(frozen=True)
class Home:
    folder: Path
    mark: str = "m"
    started: list[tuple[str, Fake]] = field(default_factory=list)

    def start(self, command: list[str], log: Path, own: dict[str, str]) -> Fake:  # noqa: ARG002
        process = Fake(len(self.started) + 1)
        self.started.append((command[0], process))
        return process


class Clock:
    """Lets time pass where the supervisor sleeps, and things happen at times."""

    def __init__(self, plan: dict[float, Any], end: float) -> None:
        self.now, self.plan, self.end = 0.0, dict(sorted(plan.items())), end

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now > self.end:
            raise Ended
        for due in [due for due in self.plan if due <= self.now]:
            self.plan.pop(due)()


def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Home, plan: dict[float, Any], end: float
) -> list[str]:
    """Supervise two programs; return the marks that were ended, in order."""
    ended: list[str] = []
    monkeypatch.setattr(supervisor, "time", Clock(plan, end))
    monkeypatch.setattr(supervisor, "end_all", ended.append)
    programs = [Program(name, [name], tmp_path / f"{name}.log") for name in ("one", "two")]
    with pytest.raises(Ended):
        Supervisor(home, programs, tmp_path / "state.json").run()  # type: ignore[arg-type]
    return ended


def test_a_program_that_ends_starts_again_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(tmp_path)
    kill = {5.0: lambda: setattr(home.started[0][1], "code", -9)}
    ended = run(monkeypatch, tmp_path, home, kill, 10.0)
    assert [name for name, _ in home.started] == ["one", "two", "one"]
    assert ended == ["m-one", "m-two", "m-one"]  # its own leavings, then all, the last one first
    assert not (tmp_path / "state.json").exists()
    assert "one ended with code -9 (SIGKILL); again in 1 s" in caplog.messages


class Hopeless(Home):
    """Its programs end at once."""

    def start(self, command: list[str], log: Path, own: dict[str, str]) -> Fake:
        process = super().start(command, log, own)
        process.code = 1
        return process


def supervised(monkeypatch: pytest.MonkeyPatch, clock: Clock, home: Home, program: Program) -> None:
    monkeypatch.setattr(supervisor, "time", clock)
    monkeypatch.setattr(supervisor, "end_all", lambda _: None)
    one = Supervisor(home, [program], home.folder / "state.json")  # type: ignore[arg-type]
    with pytest.raises(Ended):
        one.run()


def test_a_program_that_ends_again_and_again_is_started_later_and_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock, times = Clock({}, 400.0), []
    program = Program("one", ["one"], tmp_path / "log", lambda: times.append(clock.now))
    supervised(monkeypatch, clock, Hopeless(tmp_path), program)
    pauses = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert pauses[:9] == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60], abs=0.5)


def test_a_list_that_cannot_be_written_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home, full, kept = Home(tmp_path), [True], list[str]()

    def write(path: Path, data: bytes) -> None:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomic(path, data)
        kept.append(path.name)

    monkeypatch.setattr(supervisor, "write_atomic", write)
    ended = run(monkeypatch, tmp_path, home, {5.0: full.clear}, 10.0)
    assert ended == ["m-two", "m-one"]  # at the end
    assert kept == ["state.json"]
    assert len([m for m in caplog.messages if "No space left" in m]) == 1


def test_a_log_that_grows_long_is_set_aside_while_its_program_writes_to_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(supervisor, "LARGEST_LOG", 100)
    home, log, other = Home(tmp_path), tmp_path / "one.log", tmp_path / "two.log"
    with log.open("ab", buffering=0) as program:
        plan = {
            2.0: lambda: program.write(b"a" * 101),
            4.0: lambda: program.write(b"b" * 102),
            6.0: lambda: (program.write(b"c" * 9), other.write_bytes(b"d" * 100)),
        }
        run(monkeypatch, tmp_path, home, plan, 10.0)
    assert log.read_bytes() == b"c" * 9
    assert log.with_suffix(".log.1").read_bytes() == b"b" * 102
    assert other.read_bytes() == b"d" * 100
    assert [name for name, _ in home.started] == ["one", "two"]


def test_a_node_finds_its_number_where_its_log_was_set_aside(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path)
    folder.logs.mkdir()
    assert rejoin.number(folder) is None
    folder.log("supernode").with_suffix(".log.1").write_text("SuperNode ID: 7\nSuperNode ID: 8\n")
    folder.log("supernode").write_text("nothing new\n")
    assert rejoin.number(folder) == 8
    assert rejoin.number(folder, 3) is None
    folder.log("supernode").write_text("SuperNode ID: 9\n")
    assert rejoin.number(folder) == 9


def test_a_program_takes_those_along_that_are_of_no_use_without_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = Home(tmp_path)
    clock = Clock({5.0: lambda: setattr(home.started[0][1], "code", -9)}, 10.0)
    monkeypatch.setattr(supervisor, "time", clock)
    monkeypatch.setattr(supervisor, "end_all", lambda _: None)
    programs = [
        Program("one", ["one"], tmp_path / "1", takes=("two",)),
        Program("two", ["two"], tmp_path / "2"),
        Program("three", ["three"], tmp_path / "3"),
    ]
    every = Supervisor(home, programs, tmp_path / "state.json")  # type: ignore[arg-type]
    with pytest.raises(Ended):
        every.run()
    assert [name for name, _ in home.started] == ["one", "two", "three", "one", "two"]


def test_a_program_that_cannot_be_prepared_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home, calls = Home(tmp_path), []

    def prepare() -> None:
        calls.append(None)
        if len(calls) < 3:
            raise OSError("no")

    program = Program("one", ["one"], tmp_path / "log", prepare)
    supervised(monkeypatch, Clock({}, 10.0), home, program)
    assert (len(calls), len(home.started)) == (3, 1)


def test_the_list_of_processes_names_the_living(tmp_path: Path) -> None:
    own = psutil.Process()
    identity = {"pid": own.pid, "began": own.create_time()}
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"supervisor": identity}))
    assert living(read_state(path)["supervisor"]) == own
    # A number that another process has got since is nobody.
    assert living({**identity, "began": identity["began"] - 1}) is None
    assert living({"pid": None, "began": None}) is None
    path.write_text("{")
    assert read_state(path) == {}


def test_the_delay_grows_to_a_minute() -> None:
    assert [delay(n) for n in (1, 2, 7, 1000)] == [1, 2, 60, 60]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "\x1b[91mERROR \x1b[0m: Exit Code: 305\nFailed to initialize.\n[code: 2004] Failed to "
            "activate SuperNode.\n\nFor more information, visit: <x>\nINFO: Shutting down",
            "the server does not know this node's key, or another node still holds its place",
        ),
        ("ERROR: Exit Code: 700\nOne\ntwo.\n\nFor more\nINFO: gone", "One two."),
        ("INFO: up\nERROR: [Errno 98] address already in use\nINFO: down", "address already in"),
        ("one\ntwo\n", "two"),
        ("bayfed: error: x: is missing\n", "x: is missing"),
        (
            "ERROR: Exit Code: 601\n[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
            "certificate has expired (_ssl.c:1006)\n",
            "its administrator must renew it",
        ),
    ],
)
def test_one_line_says_why(text: str, said: str) -> None:
    assert said in told(text)
