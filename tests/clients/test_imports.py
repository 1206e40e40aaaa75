from __future__ import annotations

import subprocess
import sys

COSTLY = ("matplotlib", "scipy.ndimage", "scipy.optimize", "scipy.stats", "sklearn", "timm")
LOADED = f"""
import sys, clients.app, clients.factory
print(*[name for name in {COSTLY!r} if name in sys.modules])
"""


def test_a_process_that_trains_loads_only_what_training_needs() -> None:
    # Flower starts a process for every message.
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
