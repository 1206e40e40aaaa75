from __future__ import annotations

import subprocess
import sys
import threading
import time
from types import ModuleType

import pytest
from flwr.supercore.inflatable.inflatable_utils import ObjectUnavailableError, pull_objects

from deploy.supernode import hasten
from experiments.processes import ROOT

SCRIPT = """
import threading, time
from deploy import supernode

def serving():
    threading.Thread(target=time.sleep, args=(60.0,)).start()

def flower():
{body}

supernode.flower_supernode = flower
supernode.main()
"""


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("serving()", 1, ""),
        ("serving(); raise ValueError('away')", 1, "ERROR: ValueError: away\n"),
        (
            "threading.Thread(target=lambda: 1 / 0).start(); serving(); time.sleep(60.0)",
            1,
            "ERROR: ZeroDivisionError: division by zero\n",
        ),
        ("raise SystemExit(0)", 0, ""),
    ],
    ids=["it has returned", "it has failed", "a thread has failed", "it was asked to end"],
)
def test_a_node_that_does_nothing_more_ends(body: str, code: int, said: str) -> None:
    script = SCRIPT.format(body=f"    {body}")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stderr) == (code, said)


class Lazy(ModuleType):
    """Flower's own loop, as far as it waits."""

    def __init__(self, missing: int) -> None:
        super().__init__("lazy")
        self.pull_objects, self.time = pull_objects, time
        self.missing = missing

    def pull(self, name: str) -> bytes:
        self.missing -= 1
        if self.missing >= 0:
            raise ObjectUnavailableError(name)
        return name.encode()


def test_what_a_message_holds_is_looked_for_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(threading.Event, "wait", lambda _, seconds=None: waits.append(seconds or 0))
    flower = Lazy(missing=2)
    hasten(flower)
    assert flower.pull_objects(["a"], flower.pull) == {"a": b"a"}
    assert all(wait < 0.3 for wait in waits)


def test_a_reply_is_looked_for_soon_and_the_superlink_left_in_peace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    flower = Lazy(missing=0)
    hasten(flower)
    flower.time.sleep(0.5)
    flower.time.sleep(3)
    assert waits[0] < 0.2
    assert waits[1] == 3
