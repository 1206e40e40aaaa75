from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bayfed.evaluation.table import read_rows
from deploy.federation import home
from deploy.layout import FederationFolder, NodeFolder
from experiments.processes import ROOT, free_port
from server import history, outcome

GUIDE = ROOT / "deploy" / "README.md"
PLANTS = ("plant-a", "plant-b", "plant-c")


def blocks() -> list[str]:
    """Return the command blocks of the guide, in their order."""
    return re.findall(r"^```bash\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.M | re.S)


class Machine:
    """Runs the guide in a folder, on ports that nobody else has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        scripts = folder / "bin"
        scripts.mkdir()
        command = f'#!/bin/sh\nexec "{sys.executable}" -m deploy.background "$@"\n'
        (scripts / "bayfed").write_text(command)
        (scripts / "bayfed").chmod(0o755)
        path = os.pathsep.join([str(scripts), str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
        self.ports = f"--port {free_port()} --control-port {free_port()}"

    def run(self, block: str) -> str:
        text = block.replace("--host 127.0.0.1", f"--host 127.0.0.1 {self.ports}")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    found = Machine(tmp_path)
    try:
        yield found
    finally:
        for kind, name in (*(("node", plant) for plant in PLANTS), ("federation", "federation")):
            if (tmp_path / name).exists():
                found.run(f"bayfed {kind} stop {name}")


@pytest.mark.xdist_group("ray")  # not beside a Ray: each would like both cores
def test_the_guide_works_as_written(machine: Machine) -> None:
    server, *others, last = blocks()
    for block in (server, *others):
        machine.run(block)
    out = machine.folder / "first-run"
    rounds = history.read(out / "metrics.jsonl")
    assert [line["round"] for line in rounds] == [0, 1, 2]
    sites = {"bolt_00", "fabric_00", "metal_00"}
    assert {client["name"] for client in rounds[-1]["clients"]} == sites
    assert {row.site for row in read_rows(out / "results.csv")} == sites
    assert outcome.read(out / "outcome.json")["status"] == outcome.COMPLETED
    refuses_an_app_that_no_plant_trusts(machine.folder)
    machine.run(last)
    nothing_secret_is_in_what_was_written(machine.folder)


def refuses_an_app_that_no_plant_trusts(folder: Path) -> None:
    federation, out = FederationFolder(folder / "federation"), folder / "tampered"
    app = federation.app / "clients" / "app.py"
    app.write_text(f'{app.read_text()}\nopen("{folder}/imported", "w").close()\n')
    config = folder / "run.toml"
    experiment = federation.root / "experiment.yaml"
    config.write_text(f'experiment = "{experiment}"\nset = "out={out}"\n')
    command = ["flwr", "run", str(federation.app), "here", "--run-config", str(config)]
    home(federation).call(command)
    said = wait_for_outcome(out / "outcome.json")
    assert said["status"] == outcome.FAILED
    assert "does not trust the app of the run" in said["reason"]
    assert not (folder / "imported").exists()


def wait_for_outcome(path: Path, patience: float = 60.0) -> dict[str, Any]:
    deadline = time.monotonic() + patience
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def nothing_secret_is_in_what_was_written(folder: Path) -> None:
    keys = [path for path in folder.rglob("*.key") if path.is_file()]
    assert len(keys) == 2 + len(PLANTS)
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    shared = [NodeFolder(folder / plant).secret for plant in PLANTS]
    assert {path.stat().st_mode & 0o777 for path in shared} == {0o600}
    secrets = [path.read_bytes() for path in shared]
    for key in keys:
        # Any line of the key's own text, and not its first and last.
        secrets += [line for line in key.read_bytes().split(b"\n")[1:-2] if len(line) > 20]
    for path in folder.rglob("*"):
        if path.is_file() and path not in keys and path not in shared:
            content = path.read_bytes()
            assert b"PRIVATE KEY" not in content, path
            assert not [secret for secret in secrets if secret in content], path
