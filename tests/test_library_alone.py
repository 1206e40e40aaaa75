from __future__ import annotations

import subprocess
import sys

IMPORT_ALL = """
import importlib, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"flwr", "ray"}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
import bayfed

names = [m.name for m in pkgutil.walk_packages(bayfed.__path__, "bayfed.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_every_module_of_the_library_imports_without_flower_and_ray() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50
