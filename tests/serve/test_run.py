from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from bayfed.errors import ConfigError, DataError
from bayfed.serve.run import run
from bayfed.serve.service import Settings
from tests.serve.lamp import Lamp, png

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import sys
from pathlib import Path
from bayfed.cli.signals import Stopped, listen
from bayfed.serve.run import run
from bayfed.serve.service import Settings
from tests.serve.lamp import Lamp

listen()
try:
    run(Settings(Path(sys.argv[1])), 0, Lamp.load)
except Stopped as stop:
    sys.exit(stop.code)
"""


def test_a_signal_ends_the_service_when_all_is_answered(settings: Settings) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, settings.product],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert child.stdout is not None
    name, _, url = child.stdout.readline().strip().partition(": ")
    assert name == "lamp"
    with urllib.request.urlopen(f"{url}score", data=png(0.1)) as answer:
        assert answer.status == 200
    child.send_signal(signal.SIGTERM)
    said, _ = child.communicate()
    assert child.returncode == 128 + signal.SIGTERM
    assert said.splitlines() == [f"history and images: {settings.folder}"]


def test_a_port_that_is_taken_is_named(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf":{port}: Address already"):
            run(settings, port, Lamp.load)


def test_a_product_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none"):
        run(Settings(tmp_path / "none.bayfed"), 0, Lamp.load)
    assert list(tmp_path.iterdir()) == []
