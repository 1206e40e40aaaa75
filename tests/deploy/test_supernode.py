from __future__ import annotations

import subprocess
import sys

import pytest

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
