"""A supervisor in the background or in the foreground, for a federation and a node alike."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psutil
import typer

from bayfed.cli.signals import Stopped
from bayfed.errors import FederationError
from bayfed.folders import make_folder
from deploy.layout import Folder
from deploy.reasons import reason
from deploy.supervisor import (
    Program,
    Supervisor,
    end_orphans,
    living,
    new_mark,
    read_state,
)
from experiments.processes import ROOT, Home, with_app

SUPERVISOR = "supervisor"
_ENDING = 30.0
_PAUSE = 0.1


def supervise(folder: Folder, programs: Sequence[Program]) -> None:
    """Keep ``programs`` running until a signal comes.

    Raises:
        FederationError: they run already.
    """
    clear(folder)
    make_folder(folder.logs)
    make_folder(folder.root / "flwr")
    handler = logging.FileHandler(folder.log("supervisor"), encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger("bayfed").addHandler(handler)
    home = Home(folder.root, folder.log("supervisor"), new_mark())
    with suppress(Stopped):
        Supervisor(home, programs, folder.processes).run()


def detach(
    folder: Folder, words: Sequence[str], ready: Callable[[], bool], patience: float
) -> bool:
    """Start ``bayfed WORDS`` in a session of its own and return whether it was ready in time.

    Raises:
        FederationError: it has ended, or one of its programs has and does not come up.
    """
    make_folder(folder.logs)
    command = [sys.executable, "-m", "deploy.background", *words]
    before = {path: path.stat().st_size for path in folder.logs.glob("*.log")}
    began = before.get(folder.log("supervisor"), 0)
    with folder.log("supervisor").open("ab") as output:
        process = psutil.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **with_app()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + patience
    while not ready():
        if process.poll() is not None:
            raise FederationError(
                f"it has ended at once ({reason(folder.log('supervisor'), began)}), "
                f"see {folder.log('supervisor')}"
            )
        if failed := _failed(folder):
            stop(folder)
            log = folder.log(failed)
            said = reason(log, before.get(log, 0))
            raise FederationError(f"{failed} ended: {said} (see {log})")
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def _failed(folder: Folder) -> str | None:
    """Return the name of a program that has ended since the start."""
    programs = read_state(folder.processes).get("programs", {})
    ended = [name for name, found in programs.items() if found["starts"] and not found["pid"]]
    return ended[0] if ended else None


def clear(folder: Folder) -> None:
    """Make sure that nothing runs in ``folder``: what a killed supervisor has left is ended.

    Raises:
        FederationError: its supervisor lives.
    """
    if (found := supervisor_of(folder)) is not None:
        raise FederationError(f"{folder.root}: runs already, as process {found.pid}")
    end_orphans(folder.processes)


def require_running(folder: Folder) -> None:
    """Check that the programs of ``folder`` run.

    Raises:
        FederationError: they do not.
    """
    if supervisor_of(folder) is None:
        raise FederationError(f"{folder.root}: does not run, start it first")


def supervisor_of(folder: Folder) -> psutil.Process | None:
    """Return the process that keeps the programs of ``folder`` running, ``None`` if none does."""
    return living(read_state(folder.processes).get("supervisor", {}))


def program_of(folder: Folder, name: str) -> psutil.Process | None:
    """Return the process of one of the programs of ``folder``, ``None`` if it does not run."""
    return living(read_state(folder.processes).get("programs", {}).get(name, {}))


def stop(folder: Folder) -> bool:
    """End the programs of ``folder`` and return whether they ran.

    Raises:
        FederationError: they do not end.
    """
    found = supervisor_of(folder)
    if found is not None:
        with suppress(psutil.NoSuchProcess):
            found.terminate()
        try:
            found.wait(_ENDING)
        except psutil.TimeoutExpired as error:
            raise FederationError(f"{folder.root}: process {found.pid} does not end") from error
    end_orphans(folder.processes)
    return found is not None


@dataclass(frozen=True)
class Status:
    """What is known of one program."""

    name: str
    pid: int | None
    since: str
    starts: int
    megabytes: float

    @classmethod
    def of(cls, name: str, found: Mapping[str, Any]) -> Status:
        """Return the status of what ``found`` in the list of processes names."""
        process = living(found)
        memory, since = 0.0, ""
        with suppress(psutil.Error):
            if process is not None:
                family = [process]
                if name != SUPERVISOR:  # whose descendants are all the others
                    family += process.children(recursive=True)
                memory = sum(_own_memory(member) for member in family) / 1e6
                since = f"{datetime.fromtimestamp(process.create_time()):%F %T}"
        pid = None if process is None else process.pid
        return cls(name, pid, since, int(found.get("starts", 1)), memory)


def _own_memory(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        return float(process.memory_full_info().pss)
    return 0.0


def statuses(folder: Folder) -> list[Status]:
    """Return the status of the supervisor and of its programs."""
    state = read_state(folder.processes)
    found = {SUPERVISOR: state.get(SUPERVISOR, {}), **state.get("programs", {})}
    return [Status.of(name, identity) for name, identity in found.items()]


def tell(
    programs: Sequence[Status],
    facts: Mapping[str, object],
    head: str,
    lines: Sequence[str],
    as_json: bool,
) -> None:
    """Print ``facts`` for programs, or for a person ``head``, the programs and ``lines``.

    The command ends with 3, as systemd's does, unless every program runs.
    """
    if as_json:
        shown = [asdict(program) for program in programs]
        typer.echo(json.dumps({**facts, "programs": shown}))
    else:
        for line in (head, *map(_line, programs), *lines):
            typer.echo(line)
    if any(program.pid is None for program in programs):
        raise typer.Exit(3)


def _line(program: Status) -> str:
    if program.pid is None:
        return f"{program.name}: does not run"
    return (
        f"{program.name}: process {program.pid} since {program.since}, "
        f"{program.megabytes:.0f} MB, start {program.starts}"
    )


if __name__ == "__main__":
    from bayfed.cli.main import main

    main()
