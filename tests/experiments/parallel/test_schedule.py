from __future__ import annotations

import io
import sys
import time
from collections.abc import Mapping
from typing import Any

import psutil
import pytest
from rich.console import Console

from bayfed.errors import DataError
from experiments.bench.tasks import MEASURING, WORDS
from experiments.parallel.board import Board
from experiments.parallel.schedule import Schedule
from experiments.parallel.task import Task
from experiments.processes import ROOT


class Quiet:
    def look(self, running: Mapping[str, Task]) -> None:
        assert len(running) >= 0

    def done(self, task: Task) -> None:
        assert task.key


def broken() -> None:
    raise DataError("a.png: cannot be read")


def surprised() -> None:
    raise ZeroDivisionError("of a\nkind")


def interrupted() -> None:
    raise KeyboardInterrupt


def run(*tasks: Task, workers: int = 1) -> tuple[list[tuple[str, Any]], dict[str, str]]:
    ended: list[tuple[str, Any]] = []
    schedule = Schedule({task.key: task for task in tasks}, lambda *end: ended.append(end), Quiet())
    schedule.run(workers)
    return ended, schedule.failed


def task(key: str, function: Any = str, *needs: str, arguments: tuple[Any, ...] = ()) -> Task:
    return Task(key, MEASURING, f"task {key}", function, arguments, needs)


def test_a_task_waits_for_what_it_needs() -> None:
    ended, failed = run(task("c", str, "b"), task("b", str, "a"), task("a"), task("d"))
    assert [key for key, _ in ended] == ["a", "b", "c", "d"]
    assert failed == {}


@pytest.mark.parametrize(
    ("function", "reason"),
    [(broken, "a.png: cannot be read"), (surprised, "ZeroDivisionError: of a kind")],
)
def test_a_failure_takes_only_those_with_it_that_need_it(function: Any, reason: str) -> None:
    ended, failed = run(task("a", function), task("b", str, "a"), task("c", str, "b"), task("d"))
    assert [key for key, _ in ended] == ["d"]
    assert failed == dict.fromkeys(("a", "b", "c"), reason)


def test_an_interrupt_ends_it() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(task("a"), task("b", interrupted))


def test_workers_give_the_same_results() -> None:
    tasks = [task(str(n), pow, arguments=(n, 2)) for n in range(5)]
    tasks += [task("sum", pow, "4", arguments=(10, 2)), task("bad", int, arguments=("x",))]
    alone, failed_alone = run(*tasks)
    together, failed_together = run(*tasks, workers=2)
    assert sorted(alone) == sorted(together)
    assert failed_alone == failed_together
    assert list(failed_alone) == ["bad"]


SLEEPERS = """
import time
from experiments.bench.tasks import MEASURING
from experiments.parallel.schedule import Schedule
from experiments.parallel.task import Task

class Quiet:
    def look(self, running): ...
    def done(self, task): ...

tasks = {name: Task(name, MEASURING, name, time.sleep, (600,), ()) for name in "ab"}
Schedule(tasks, print, Quiet()).run(2)
"""


def test_the_workers_of_a_killed_bench_end_with_it() -> None:
    runner = psutil.Popen([sys.executable, "-c", SLEEPERS], cwd=ROOT)
    workers: list[psutil.Process] = []
    while runner.poll() is None and len(workers) < 2:
        time.sleep(0.1)
        children = runner.children()
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    for worker in workers:  # it is told of its parent once it has loaded what it needs
        while worker.num_threads() < 2:
            time.sleep(0.1)
    runner.kill()
    runner.wait()
    _, left = psutil.wait_procs(workers, timeout=20)
    assert len(workers) == 2
    assert left == []


def test_the_board_counts_rounds_and_never_more_than_there_are(tmp_path: Any) -> None:
    history = tmp_path / "metrics.jsonl"
    training = Task("t", "training", "training t", str, (), (), 3, history)
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with Board({"t": training, "m": task("m")}, WORDS, console) as board:
        board.look({"t": training})
        history.write_text('{"round": 0}\n{"round": 1}\n')
        board.look({"t": training})
        (bar,) = [b for b in board._progress.tasks if b.description == "rounds trained"]
        assert bar.completed == 1
        board.done(training)
        assert bar.completed == bar.total == 3
