from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bayfed.errors import ConfigError
from bayfed.fingerprint import fingerprint, tree_hash
from experiments.processes import stage

CODE = ("bayfed", "clients", "strategies")


def write(folder: Path, files: dict[str, str]) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tree_hash(folder)


def test_the_hash_depends_on_names_and_contents_of_code_alone(tmp_path: Path) -> None:
    files = {"a.py": "x = 1", "b/c.py": "y = 2"}
    first = write(tmp_path / "one", files)
    assert write(tmp_path / "two", {**files, "notes.txt": "z", "__pycache__/a.pyc": ""}) == first
    assert write(tmp_path / "two", {**files, "a.py": "x = 2"}) != first
    assert write(tmp_path / "two", {"a.py": "x = 1", "b/d.py": "y = 2"}) != first
    assert write(tmp_path / "two", {**files, "d.py": ""}) != first


def test_the_bundled_app_has_the_hash_of_the_checkout(tmp_path: Path) -> None:
    stage(tmp_path)
    for package in CODE:
        installed = Path(__file__).parents[2] / package
        assert tree_hash(tmp_path / package) == tree_hash(installed)


def test_a_missing_package_is_named() -> None:
    with pytest.raises(ConfigError, match="'nowhere'"):
        fingerprint("nowhere")
