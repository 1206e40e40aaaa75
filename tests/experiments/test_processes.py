from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bayfed.errors import FederationError
from experiments import processes
from experiments.processes import ROOT, Program, first_error, flower_home, last_line, marked, stage


def test_the_staged_app_holds_code_and_experiments_only(tmp_path: Path) -> None:
    stage(tmp_path / "app")
    kinds = {path.suffix for path in (tmp_path / "app").rglob("*") if path.is_file()}
    assert kinds <= {".py", ".yaml", ".toml", ".md", ""}
    assert (tmp_path / "app" / "clients" / "app.py").is_file()
    assert not (tmp_path / "app" / "tests").exists()


def test_an_installation_without_the_app_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "ROOT", tmp_path)
    with pytest.raises(FederationError, match="not a checkout"):
        stage(tmp_path / "app")


def test_whatever_happens_nothing_that_was_started_is_left(tmp_path: Path) -> None:
    orphan = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', {!r}])"
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
    children: list[psutil.Process] = []

    def interrupted() -> None:
        with flower_home(tmp_path / "log") as home:
            folders.append(home.folder)
            home.start([sys.executable, "-c", orphan.format(stubborn)]).wait()
            while not children:
                children.extend(marked(home.mark))
            raise KeyboardInterrupt

    folders: list[Path] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not [child for child in children if psutil.pid_exists(child.pid) and alive(child)]
    assert not folders[0].exists()


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


RUNNER = """
import sys, time
from pathlib import Path
from experiments.processes import ROOT, Program, first_error, flower_home, last_line
with flower_home(Path(sys.argv[1])) as home:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', {!r}])"
    home.start([sys.executable, "-c", child.format("import time; time.sleep(600)")])
    print(home.mark, home.folder, flush=True)
    time.sleep(600)
"""


def test_a_runner_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUNNER, str(tmp_path / "log")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        mark, folder = runner.stdout.readline().split()
        children = until(lambda: marked(mark), lambda found: len(found) == 2)
        runner.kill()
    assert until(lambda: [c for c in children if alive(c)], lambda left: not left) == []
    assert not until(Path(folder).exists, lambda there: not there)


def until(look: Callable[[], Any], enough: Callable[[Any], bool], seconds: float = 30.0) -> Any:
    """Look again and again, and return what was seen last."""
    limit = time.monotonic() + seconds
    while not enough(found := look()) and time.monotonic() < limit:
        time.sleep(0.05)
    return found


def test_a_command_that_fails_points_to_the_log(tmp_path: Path) -> None:
    with flower_home(tmp_path / "log") as home:
        with pytest.raises(FederationError, match="log"):
            home.call([sys.executable, "-c", "print('why'); exit(3)"])
        with pytest.raises(FederationError, match=r"no answer in 0\.1 s"):
            home.call([sys.executable, "-c", "import time; time.sleep(9)"], timeout=0.1)
        assert "OMP_NUM_THREADS" in home.environment()
    assert "why" in (tmp_path / "log").read_text()


def test_a_program_that_has_ended_is_named_with_the_last_line_of_its_log(tmp_path: Path) -> None:
    own = tmp_path / "superexec.log"
    with flower_home(tmp_path / "log") as home:
        lasting = home.start([sys.executable, "-c", "import time; time.sleep(600)"])
        Program("lasting", lasting, home.log).require()
        ended = home.start([sys.executable, "-c", "raise RuntimeError('no port\\n ')"], own)
        ended.wait()
        with pytest.raises(FederationError) as caught:
            Program("superexec", ended, own).require()
    text = "superexec has ended with code 1 (RuntimeError: no port), see"
    assert str(caught.value) == f"{text} {own}"


def test_a_log_that_says_nothing_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("\n \n")
    assert last_line(tmp_path / "log") == last_line(tmp_path / "absent") == "its log is empty"
    assert first_error(tmp_path / "log") == "its log is empty"


def test_the_first_exception_of_a_log_is_the_cause_of_the_others(tmp_path: Path) -> None:
    chain = "Traceback:\n  raise ValueError(\nray.exceptions.RayError: no memory\n\nThe above ...\n"
    (tmp_path / "log").write_text(f"INFO: hello\n{chain}RuntimeError: crashed\nINFO: bye\n")
    assert first_error(tmp_path / "log") == "ray.exceptions.RayError: no memory"
    (tmp_path / "log").write_text("INFO: hello\nKilled\n")
    assert first_error(tmp_path / "log") == "Killed"
