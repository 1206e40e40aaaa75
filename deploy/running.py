"""A run on the plants: submitted, followed, and submitted again where the server dies."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import psutil

from bayfed.cli.signals import WORDS, Stopped
from bayfed.errors import FederationError
from deploy import federation
from deploy.background import program_of, require_running
from deploy.layout import FederationFolder
from deploy.settings import Member
from experiments.processes import Home, first_error, stage
from experiments.simulation import submit
from server import outcome
from server.job import Job
from server.plants import Plant, Plants

SETTINGS = ("data.source=folders", "data.root=/at-each-plant")
"""The server names no folder that exists: what a node reads is the node's own decision."""
_SERVER = "flwr-serverapp"
_GRACE = 60.0
_PAUSE = 0.2
Tell = Callable[[str], object]


class LostError(FederationError):
    """What ran the server is gone; the run can go on from its last checkpoint."""


def run(
    folder: FederationFolder, job: Job, tell: Tell, attempts: int = 5, patience: float = 60.0
) -> None:
    """Run ``job`` on the plants that are connected, and return when it has completed.

    Args:
        folder: The federation's.
        job: What to run.
        tell: Is told what a person would want to know.
        attempts: How often the run may lose its server before it is given up.
        patience: Seconds to wait for a SuperLink and for plants to be back.

    Raises:
        FederationError: the run failed, or lost its server too often.
    """
    require_running(folder)
    federation.check_certificates(folder)
    job.make_folder()
    here = _home(folder, job)
    job = replace(job, plants=_plants(folder))
    with outcome.recorded(job.outcome):
        for attempt in range(1, attempts + 1):
            try:
                _await_superlink(folder, patience)
                _await_plants(folder, patience, tell)
                _attempt(folder, here, job)
                return
            except LostError as error:
                if attempt == attempts:
                    raise FederationError(
                        f"{error} (attempt {attempt} of {attempts}); to go on, repeat the command "
                        f"with --resume --out {job.out}"
                    ) from error
                tell(f"{error}; going on from the last checkpoint")
                job = replace(job, resume=True)


def _plants(folder: FederationFolder) -> Plants:
    """Return who may take part: a node is the plant for whose key it was registered."""
    by_node = {m.node: Plant(m.partition, m.name) for m in federation.members(folder)}
    return Plants(folder.settings().plants, by_node)


def _home(folder: FederationFolder, job: Job) -> Home:
    found = replace(federation.home(folder), log=job.out / "flower.log")
    shutil.rmtree(found.app, ignore_errors=True)
    stage(found.app)
    return found


def _await_superlink(folder: FederationFolder, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not federation.is_up(folder):
        if time.monotonic() > deadline:
            raise FederationError(f"the SuperLink does not answer, see {folder.log('superlink')}")
        time.sleep(_PAUSE)


def _await_plants(folder: FederationFolder, patience: float, tell: Tell) -> None:
    deadline, told = time.monotonic() + patience, ""
    members = federation.members(folder)
    while True:
        states = federation.states(folder)
        away = [m.name for m in members if states.get(m.node) != "online"]
        line = f"{len(members) - len(away)} of {len(members)} plants are connected"
        if away and line != told:
            tell(f"{line}, not {', '.join(away)}")
            told = line
        if not away or time.monotonic() > deadline:
            break
        time.sleep(_PAUSE)
    if len(away) == len(members):
        raise FederationError("no plant is connected")


def _attempt(folder: FederationFolder, here: Home, job: Job) -> None:
    """Submit the run once and return when it has completed.

    Raises:
        LostError: its server is gone.
        FederationError: it has failed.
    """
    _clear(job)
    superlink = program_of(folder, federation.SUPERLINK)
    if superlink is None:
        raise LostError("the SuperLink is gone")
    try:
        with _undisturbed():  # whose number is not known cannot be stopped
            number = submit(here, job)
    except FederationError as error:
        if _lives(superlink) and federation.is_up(folder):
            raise
        raise LostError("the SuperLink is gone") from error
    try:
        _watch(superlink, job)
    except Stopped:
        here.call(["flwr", "stop", number, federation.CONNECTION, "--format", "json"])
        raise
    said = outcome.read(job.outcome)
    if said.get("status") != outcome.COMPLETED:
        if not _lives(superlink):
            raise LostError("the SuperLink is gone")
        reason = said.get("reason") or f"the run failed ({first_error(here.log)})"
        raise FederationError(_with_names(reason, federation.members(folder)))


def _with_names(text: str, members: Sequence[Member]) -> str:
    """Return ``text`` with the plants' names for the numbers that Flower has given their nodes."""
    for member in members:
        text = text.replace(f"node {member.node}", member.name)
    return text


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let signals wait until the body is through."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WORDS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _clear(job: Job) -> None:
    deadline = time.monotonic() + _GRACE
    while True:
        try:
            with job.alone():  # what a killed SuperLink has left may still write
                job.outcome.unlink(missing_ok=True)
                return
        except FederationError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def _watch(superlink: psutil.Process, job: Job) -> None:
    """Return when the server has left an outcome.

    Raises:
        LostError: it never will.
        FederationError: it never can.
    """
    limit, server = time.monotonic() + _GRACE, None
    while not job.outcome.exists():
        if not _lives(superlink):
            raise LostError("the SuperLink is gone")
        server = server or _server(superlink)
        if server is None and time.monotonic() > limit:
            # It may have lost the program that starts servers: its supervisor gives it another.
            superlink.terminate()
            raise LostError(f"Flower did not start the run within {_GRACE:g} s")
        if server is not None and not _lives(server) and not job.outcome.exists():
            outcome.require_room(job.outcome)
            raise LostError("the server of the run is gone")
        time.sleep(_PAUSE)


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _server(superlink: psutil.Process) -> psutil.Process | None:
    """Return the process of the run's server among the descendants of the SuperLink."""
    with suppress(psutil.Error):
        for child in superlink.children(recursive=True):
            with suppress(psutil.Error):
                if any(_SERVER in word for word in child.cmdline()):
                    return child
    return None
