"""Flower's processes: started in a home of their own, and ended whatever happens."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import psutil

from bayfed.errors import FederationError

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("bayfed", "clients", "server", "strategies", "experiments")
MARK = "BAYFED_PROCESS_GROUP"
_STARTUP = 60.0
_EXCEPTION = re.compile(r"^(?:\w+\.)*\w+(?:Error|Exception|Timeout): .+", re.MULTILINE)
OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    # The app is unpacked once and imported for every message: let it be compiled once as well.
    "PYTHONDONTWRITEBYTECODE": "",
    # Episodes allocate the same tensors again and again; without this each one is mapped anew.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
}


@dataclass(frozen=True)
class Home:
    """A folder for Flower's state, the environment of its processes, and one log."""

    folder: Path
    log: Path
    mark: str

    @property
    def app(self) -> Path:
        """The copy of the app that is bundled and run."""
        return self.folder / "app"

    def environment(self) -> dict[str, str]:
        """Return the environment: offline, isolated, one thread a process."""
        scripts = str(Path(sys.executable).parent)
        path = os.pathsep.join([scripts, os.environ.get("PATH", "")])
        own = {"PATH": path, "FLWR_HOME": str(self.folder / "flwr"), MARK: self.mark}
        return {**os.environ, **OFFLINE, **own}

    def start(
        self, command: Sequence[str], log: Path | None = None, own: Mapping[str, str] | None = None
    ) -> psutil.Popen:
        """Start a process that writes to the log, or to one of its own.

        Args:
            command: The program and its arguments.
            log: Where it writes to.
            own: What it has in its environment besides.
        """
        with (log or self.log).open("ab") as output:
            return psutil.Popen(
                command,
                cwd=self.folder,
                env={**self.environment(), **(own or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def call(self, command: Sequence[str], timeout: float = 120.0) -> str:
        """Return the standard output of a short command.

        Raises:
            FederationError: it fails or takes longer than ``timeout`` seconds.
        """
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise FederationError(f"{' '.join(command[:2])}: no answer in {timeout:g} s") from error
        if done.returncode:
            with self.log.open("a", encoding="utf-8") as log:
                log.write(done.stdout + done.stderr)
            raise FederationError(f"{' '.join(command[:2])} failed, see {self.log}")
        return done.stdout


def with_app() -> dict[str, str]:
    """Return the environment in which Python finds the app's packages from any folder."""
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path)}


@dataclass(frozen=True)
class Program:
    """A program that a run cannot do without."""

    name: str
    process: psutil.Popen
    log: Path

    def require(self) -> None:
        """Check that it has not ended.

        Raises:
            FederationError: it has; the message is the last line of its log.
        """
        code = self.process.poll()
        if code is not None:
            raise FederationError(
                f"{self.name} has ended with code {code} ({last_line(self.log)}), see {self.log}"
            )


def last_line(log: Path, longest: int = 200) -> str:
    """Return the last line of ``log`` that says something."""
    with suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        if said:
            return said[-1][:longest]
    return "its log is empty"


def first_error(log: Path, longest: int = 200) -> str:
    """Return the first exception that stands in ``log``: the others tend to follow from it."""
    with suppress(OSError):
        found = _EXCEPTION.search(log.read_text(encoding="utf-8", errors="replace"))
        if found:
            return found.group().strip()[:longest]
    return last_line(log, longest)


@contextmanager
def flower_home(log: Path) -> Iterator[Home]:
    """Yield a home with the app in it; at the end nothing that was started is left.

    Nor is it where this process is killed: a guard beside it then takes everything down.
    """
    folder = Path(tempfile.mkdtemp(prefix="bayfed-flower-"))
    home = Home(folder, log, uuid.uuid4().hex)
    with _guarded(home):
        try:
            stage(home.app)
            (folder / "flwr").mkdir()
            yield home
        finally:
            end_all(home.mark)
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _guarded(home: Home) -> Iterator[None]:
    command = [sys.executable, "-m", "experiments.guard", home.mark, str(home.folder)]
    # The pipe closes when this process ends, by whatever it ends.
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True):
        yield


def stage(target: Path) -> None:
    """Copy the app's sources to ``target``, so that Flower does not walk through data.

    Raises:
        FederationError: this is an installation without the app.
    """
    if not is_checkout(ROOT):
        raise FederationError(f"{ROOT}: not a checkout of bayfed, whose app is to be run")
    for package in PACKAGES:
        for source in sorted([*(ROOT / package).rglob("*.py"), *(ROOT / package).glob("*.yaml")]):
            copy = target / source.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copyfile(ROOT / name, target / name)


def is_checkout(folder: Path) -> bool:
    """Return whether ``folder`` holds the Flower app."""
    with suppress(OSError, tomllib.TOMLDecodeError):
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        return "flwr" in project.get("tool", {}) and (folder / "server" / "app.py").is_file()
    return False


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class SuperLink:
    """A running SuperLink and the port on which all its interfaces listen."""

    process: psutil.Popen
    port: int

    def runs(self, program: str) -> bool:
        """Return whether one of its children runs ``program``."""
        with suppress(psutil.Error):
            children = self.process.children(recursive=True)
            return any(program in " ".join(_command(child)) for child in children)
        return False


def start_superlink(
    home: Home, options: Sequence[str] = (), own: Mapping[str, str] | None = None
) -> SuperLink:
    """Start a SuperLink on loopback and wait until it answers.

    Args:
        home: Where.
        options: Of its command.
        own: What it and the processes that it starts have in their environment besides.

    Raises:
        FederationError: it does not come up.
    """
    port = free_port()
    base = ["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port)]
    command = [*base, "--disable-runtime-dependency-installation", *options]
    process = home.start(command, own=own)
    connection = (
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{port}"\n'
    )
    (home.folder / "flwr" / "config.toml").write_text(connection + "insecure = true\n")
    deadline = time.monotonic() + _STARTUP
    while not _healthy(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise FederationError(
                f"Flower's SuperLink did not start ({first_error(home.log)}), see {home.log}"
            )
        time.sleep(0.1)
    return SuperLink(process, port)


def _command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1.0) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def marked(mark: str) -> list[psutil.Process]:
    """Return all living processes that were started under ``mark``, adopted ones included."""
    return [process for process in psutil.process_iter() if _environment(process).get(MARK) == mark]


def _environment(process: psutil.Process) -> Mapping[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def end_all(mark: str, patience: float = 5.0) -> None:
    """End every process under ``mark``: politely first, then by force."""
    for way in ("terminate", "kill"):
        processes = marked(mark)
        for process in processes:
            with suppress(psutil.Error):
                getattr(process, way)()
        psutil.wait_procs(processes, timeout=patience)
