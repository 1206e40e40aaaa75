"""Keeps programs running: starts them again, later each time, and ends all of them together.

Flower's programs end where they cannot go on: a SuperNode whose place is still held by the one
that was killed before it, a SuperLink whose port is taken. Each program has processes of its own;
what it leaves behind is ended before it starts again.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from bayfed.evaluation.atomic import write_atomic
from deploy.reasons import reason
from experiments.processes import Home, end_all, with_app

FIRST, LONGEST, STEADY = 1.0, 60.0, 60.0
"""Seconds until the first new start, at most, and of life after which counting begins anew."""
LARGEST_LOG = 20_000_000
"""Bytes from which on what a log holds is set aside, in the place of what was before."""
_PAUSE = 0.2
log = logging.getLogger("bayfed.supervisor")


@dataclass(frozen=True)
class Program:
    """One of the programs.

    Attributes:
        name: What it is called in logs and by ``status``.
        command: What is started.
        log: Where it writes to.
        prepare: Called before every start.
        takes: Names of the programs that are of no use without it, and end with it.
    """

    name: str
    command: Sequence[str]
    log: Path
    prepare: Callable[[], object] = lambda: None
    takes: tuple[str, ...] = ()


def delay(failures: int) -> float:
    """Return the seconds to wait after so many ends in a row.

    >>> [delay(n) for n in (1, 2, 3, 10)]
    [1.0, 2.0, 4.0, 60.0]
    """
    return min(LONGEST, FIRST * 2.0 ** min(failures - 1, 16))


@dataclass
class _Running:
    program: Program
    home: Home
    process: psutil.Popen | None = None
    since: float = 0.0
    due: float = 0.0
    failures: int = 0
    starts: int = 0
    began: int = 0
    """How long its log was at the last start."""

    def look(self, now: float) -> bool:
        """Start the program if it is time to; return whether anything has changed."""
        if self.process is None:
            return self._start(now) if now >= self.due else False
        code = self.process.poll()
        if code is None:
            if _size(self.program.log) > LARGEST_LOG:
                _set_aside(self.program.log)
                self.began = 0
            return False
        self.failures = 1 if now - self.since > STEADY else self.failures + 1
        self.due = now + delay(self.failures)
        self.process = None
        end_all(self.home.mark)
        said = reason(self.program.log, self.began) if code >= 0 else signal.Signals(-code).name
        wait = self.due - now
        log.warning("%s ended with code %s (%s); again in %g s", self.name, code, said, wait)
        return True

    @property
    def name(self) -> str:
        return self.program.name

    def _start(self, now: float) -> bool:
        try:
            self.program.prepare()
            self.began = _size(self.program.log)
            self.process = self.home.start(self.program.command, self.program.log, with_app())
        except Exception as error:
            self.failures += 1
            self.due = now + delay(self.failures)
            log.warning("%s cannot start: %s", self.name, error)
            return True
        self.since, self.starts = now, self.starts + 1
        return True


@dataclass
class Supervisor:
    """Programs that belong together.

    Attributes:
        home: Their folder and environment.
        programs: In the order of their start.
        state: The file that lists their processes.
    """

    home: Home
    programs: Sequence[Program]
    state: Path
    _running: list[_Running] = field(default_factory=list)

    def run(self) -> None:
        """Run until an exception ends it, a signal for one; then end everything."""
        noted = True
        self._running = [
            _Running(program, replace(self.home, mark=f"{self.home.mark}-{program.name}"))
            for program in self.programs
        ]
        try:
            while True:
                changed = [one for one in self._running if one.look(time.monotonic())]
                self._take_along(changed)
                if changed or not noted:
                    noted = self._record(noted)
                time.sleep(_PAUSE)
        finally:
            for running in reversed(self._running):
                running.process = None
                end_all(running.home.mark)
            with suppress(OSError):
                self.state.unlink()

    def _take_along(self, changed: Sequence[_Running]) -> None:
        ended = [one for one in changed if one.process is None]
        taken = {name for one in ended for name in one.program.takes}
        for one in self._running:
            if one.name in taken and one.process is not None:
                with suppress(psutil.Error):
                    one.process.terminate()

    def _record(self, tell: bool) -> bool:
        """Write the list of processes, and return whether it could be written.

        A disk that is full is no reason to end what runs.
        """
        found = {
            running.name: {
                **_identity(running.process),
                "mark": running.home.mark,
                "starts": running.starts,
                "log": str(running.program.log),
            }
            for running in self._running
        }
        state = {"supervisor": _identity(psutil.Process()), "programs": found}
        try:
            write_atomic(self.state, json.dumps(state, indent=1).encode() + b"\n")
        except OSError as error:
            if tell:
                log.warning("%s: %s", self.state, error.strerror or error)
            return False
        return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _set_aside(path: Path) -> None:
    """Empty a log that its program goes on writing to; where there is no room, nothing is kept."""
    with suppress(OSError):
        shutil.copyfile(path, path.with_suffix(".log.1"))
    with suppress(OSError):
        os.truncate(path, 0)  # it is written to at its end, wherever that is


def _identity(process: psutil.Process | None) -> dict[str, Any]:
    """Return the number of a process and when it began: together no other one has them."""
    with suppress(psutil.Error):
        if process is not None:
            return {"pid": process.pid, "began": process.create_time()}
    return {"pid": None, "began": None}


def new_mark() -> str:
    """Return a mark for the processes of one start."""
    return uuid.uuid4().hex


def read_state(path: Path) -> dict[str, Any]:
    """Return what the file at ``path`` lists, empty if nothing has been started."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def living(identity: Mapping[str, Any]) -> psutil.Process | None:
    """Return the process that ``identity`` names, ``None`` when it has ended."""
    with suppress(psutil.Error, KeyError, TypeError):
        process = psutil.Process(identity["pid"])
        ended = process.status() == psutil.STATUS_ZOMBIE
        if process.create_time() == identity["began"] and not ended:
            return process
    return None


def end_orphans(path: Path) -> None:
    """End what a supervisor has left behind that was killed."""
    state = read_state(path)
    if living(state.get("supervisor", {})) is None:
        for program in state.get("programs", {}).values():
            end_all(str(program.get("mark")))
        path.unlink(missing_ok=True)
