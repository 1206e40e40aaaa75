"""A progress bar that follows the history of a run."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from server import phase
from server.job import Job

_PAUSE = 0.25


class Tail:
    """The complete lines that a file has got since the last look."""

    def __init__(self, path: Path) -> None:
        self.path, self.position = path, 0

    def lines(self) -> list[dict[str, Any]]:
        """Return the new lines; a line that is not whole yet waits for the next look."""
        try:
            if self.path.stat().st_size < self.position:
                self.position = 0
            with self.path.open("rb") as file:
                file.seek(self.position)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        self.position += len(whole) + len(newline)
        return [json.loads(line) for line in whole.splitlines() if line]


@contextmanager
def follow(job: Job, console: Console) -> Iterator[None]:
    """Show round, loss, AUROC, bytes and the remaining time while the body runs.

    Before round 0 is done, what the server waits for stands there instead.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
    )
    stop = threading.Event()
    job.phase.unlink(missing_ok=True)  # of a run that was killed
    with Progress(*columns, console=console, transient=False) as progress:
        task = progress.add_task("starting", total=job.experiment.federation.rounds, numbers="")
        arguments = (job, progress, task, stop)
        thread = threading.Thread(target=_watch, args=arguments, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            job.phase.unlink(missing_ok=True)


def _watch(job: Job, progress: Progress, task: TaskID, stop: threading.Event) -> None:
    tail, seen = Tail(job.history), dict[str, Any]()
    last = False
    while not last:
        last = stop.wait(_PAUSE)
        for line in tail.lines():
            seen |= {key: value for key, value in line.items() if value is not None}
            numbers = describe(seen)
            progress.update(task, description="round", completed=line["round"], numbers=numbers)
        if not seen and (waiting := phase.read(job.phase)):
            progress.update(task, description=waiting)


def describe(line: dict[str, Any]) -> str:
    """Return the numbers of a round in short.

    >>> describe({"loss": 0.25, "mean_image_auroc": 0.9, "bytes_up": 2_000_000, "bytes_down": 0})
    'loss 0.2500  AUROC 0.900  2.00 MB'
    """
    parts = []
    if "loss" in line:
        parts.append(f"loss {line['loss']:.4f}")
    if "mean_image_auroc" in line:
        parts.append(f"AUROC {line['mean_image_auroc']:.3f}")
    if "bytes_up" in line:
        parts.append(f"{(line['bytes_up'] + line['bytes_down']) / 1e6:.2f} MB")
    return "  ".join(parts)
