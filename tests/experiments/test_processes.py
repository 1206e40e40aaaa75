from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from bayfed.errors import FederationError
from experiments import processes
from experiments.processes import flower_home, marked, stage


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


def test_a_command_that_fails_points_to_the_log(tmp_path: Path) -> None:
    with flower_home(tmp_path / "log") as home:
        with pytest.raises(FederationError, match="log"):
            home.call([sys.executable, "-c", "print('why'); exit(3)"])
        with pytest.raises(FederationError, match=r"no answer in 0\.1 s"):
            home.call([sys.executable, "-c", "import time; time.sleep(9)"], timeout=0.1)
        assert "OMP_NUM_THREADS" in home.environment()
    assert "why" in (tmp_path / "log").read_text()
