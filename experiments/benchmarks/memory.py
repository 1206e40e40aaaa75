"""The memory of a run and of everything it starts, detached processes included."""

from __future__ import annotations

import os
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "BAYFED_BENCHMARK"
"""Variable that a run's processes inherit, whoever adopts them."""


@dataclass(frozen=True)
class Watched:
    """A command that has ended.

    Attributes:
        code: Its exit code.
        seconds: Its wall time.
        peak_pss: Largest sum of the proportional set sizes of its processes, in bytes.
        peak_processes: How many they were then.
        sampling: Seconds of processor time that the measurement took.
    """

    code: int
    seconds: float
    peak_pss: int
    peak_processes: int
    sampling: float


def watch(
    command: Sequence[str],
    log: Path,
    interval: float = 1.0,
    each: Callable[[float], None] | None = None,
) -> Watched:
    """Run ``command`` and add up the memory of its processes every ``interval`` seconds.

    Proportional set sizes share each page out among those that map it, so that their sum
    counts no page twice. What is left when the command ends is not ended here.

    Args:
        command: The program and its arguments.
        log: File for its standard output and error.
        interval: Seconds between two looks.
        each: Called at each look with the seconds since the start.
    """
    mark = uuid.uuid4().hex
    started, sampling, peak = time.perf_counter(), time.thread_time(), (0, 0)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, MARK: mark}, stdout=output, stderr=subprocess.STDOUT
        )
    ended = threading.Event()
    threading.Thread(target=_await, args=(process, ended), daemon=True).start()
    while not ended.is_set():
        peak = max(peak, total_pss(marked(mark)))
        if each is not None:
            each(time.perf_counter() - started)
        ended.wait(interval)
    seconds = time.perf_counter() - started
    return Watched(process.returncode, seconds, *peak, time.thread_time() - sampling)


def _await(process: subprocess.Popen[bytes], ended: threading.Event) -> None:
    process.wait()
    ended.set()


def marked(mark: str) -> set[psutil.Process]:
    """Return the processes with ``mark`` in their environment, and their descendants.

    The descendants are asked for because a program that renames itself, as Ray's workers
    do, may overwrite its environment.
    """
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found |= {process, *process.children(recursive=True)}
        except (psutil.Error, OSError):
            continue
    return found


def total_pss(processes: set[psutil.Process]) -> tuple[int, int]:
    """Return the sum of the proportional set sizes in bytes, and the number of processes."""
    sizes = []
    for process in processes:
        try:
            sizes.append(int(process.memory_full_info().pss))
        except (psutil.Error, OSError):
            continue  # ended since it was found
    return sum(sizes), len(sizes)
