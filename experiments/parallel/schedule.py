"""Tasks in the order of their needs, over the cores of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Protocol

from bayfed.errors import BayfedError, FederationError
from experiments.parallel.task import Task, attempt

_PAUSE = 0.5
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    # Episodes allocate the same tensors again and again; without this each one is mapped anew.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
}


class Watcher(Protocol):
    """Who is told of the progress."""

    def look(self, running: Mapping[str, Task]) -> None:
        """See how far the running tasks are."""

    def done(self, task: Task) -> None:
        """Learn that a task has ended."""


class Schedule:
    """Tasks that wait, run and are done.

    Args:
        tasks: By key; of those that could run, the first is run first.
        finish: Called in this process with each result.
        watcher: Who is told of the progress.
    """

    def __init__(
        self, tasks: Mapping[str, Task], finish: Callable[[str, Any], None], watcher: Watcher
    ) -> None:
        self._waiting = dict(tasks)
        self._finish, self._watcher = finish, watcher
        self._done: set[str] = set()
        self.failed: dict[str, str] = {}

    def run(self, workers: int) -> None:
        """Run all tasks that can be run; ``failed`` tells those that could not, and why.

        Raises:
            FederationError: a worker died.
        """
        if workers == 1:
            self._run_here()
        else:
            self._run_in(workers)

    def _run_here(self) -> None:
        while task := self._next():
            self._watcher.look({task.key: task})
            try:
                result = attempt(task.function, *task.arguments)
            except BayfedError as error:
                self._fail(task, str(error))
            else:
                self._end(task, result)

    def _run_in(self, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        running: dict[Future[Any], Task] = {}
        pool = ProcessPoolExecutor(workers, context, initializer=_follow_parent)
        with _environment(_ONE_THREAD), pool:
            try:
                while running or self._waiting:
                    while len(running) < workers and (task := self._next()):
                        running[pool.submit(attempt, task.function, *task.arguments)] = task
                    if not running:
                        break
                    ended, _ = wait(running, timeout=_PAUSE, return_when=FIRST_COMPLETED)
                    self._watcher.look({task.key: task for task in running.values()})
                    for future in ended:
                        self._collect(running.pop(future), future)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():
                    process.terminate()
                raise

    def _collect(self, task: Task, future: Future[Any]) -> None:
        try:
            result = future.result()
        except BrokenProcessPool as error:
            raise FederationError(
                f"{task.title}: a worker process died (often for lack of memory: try fewer "
                "--workers); what is done is kept, go on with --resume"
            ) from error
        except BayfedError as error:
            self._fail(task, str(error))
        else:
            self._end(task, result)

    def _next(self) -> Task | None:
        """Take the first task whose needs are met."""
        for key, task in self._waiting.items():
            if self._done.issuperset(task.needs):
                return self._waiting.pop(key)
        return None

    def _end(self, task: Task, result: Any) -> None:
        self._done.add(task.key)
        self._watcher.done(task)
        self._finish(task.key, result)

    def _fail(self, task: Task, reason: str) -> None:
        """Give up the task, and all that needs it."""
        lost = [task]
        while lost:
            one = lost.pop()
            self.failed[one.key] = reason
            self._watcher.done(one)
            needing = [other for other in self._waiting.values() if one.key in other.needs]
            lost += [self._waiting.pop(other.key) for other in needing]


def _follow_parent() -> None:
    """Let the parent alone decide what an interrupt ends, and end with it if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(
        target=_end_with, args=(multiprocessing.parent_process(),), daemon=True
    ).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)  # nobody is left to tell, and other threads may be computing


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Let processes that are started inside have other environment variables."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
