"""Progress bars of many tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from experiments.parallel.task import Task
from experiments.progress import Tail


class Board:
    """A bar for each kind of task, of as many steps as its tasks have together.

    Args:
        tasks: By key.
        words: What the bar of a kind counts.
        console: Where it is shown.
    """

    def __init__(
        self, tasks: Mapping[str, Task], words: Mapping[str, str], console: Console
    ) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[now]}", markup=False),
        )
        self._progress = Progress(*columns, console=console)
        self._tails: dict[str, Tail] = {}
        self._steps: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for task in tasks.values():
            sizes[task.kind] += task.size
        self._bars = {
            kind: self._progress.add_task(word, total=sizes[kind], now="")
            for kind, word in words.items()
            if sizes[kind]
        }

    def __enter__(self) -> Board:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.look({})
        self._progress.stop()

    def look(self, running: Mapping[str, Task]) -> None:
        """Show what is being done, and the rounds of the trainings that go on."""
        for kind, bar in self._bars.items():
            names = [task.title for task in running.values() if task.kind == kind]
            self._progress.update(bar, now=names[0] if names else "")
        for task in running.values():
            if task.history is not None:
                tail = self._tails.setdefault(task.key, Tail(task.history))
                self._advance(task, sum(line["round"] > 0 for line in tail.lines()))

    def done(self, task: Task) -> None:
        """Count a task that has ended."""
        self._advance(task, task.size - self._steps[task.key])

    def _advance(self, task: Task, steps: int) -> None:
        steps = min(steps, task.size - self._steps[task.key])
        self._steps[task.key] += steps
        self._progress.advance(self._bars[task.kind], steps)
