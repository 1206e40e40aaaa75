from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from email.parser import Parser
from importlib.metadata import Distribution, distribution
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from tests.inference.small import model

ROOT = Path(__file__).resolve().parents[1]
EXTRA = "inference"
"""What is installed with the wheel: the least that scores."""


def call(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    done = call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


def needed(requirements: Iterable[str], extra: str) -> dict[str, Distribution]:
    """What ``requirements`` ask for with ``extra``, by name, with all that it asks for in turn."""
    found: dict[str, Distribution] = {}
    waiting = [(Requirement(text), own) for text in requirements for own in ("", extra)]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for own in ("", *requirement.extras):
            key = f"{canonicalize_name(requirement.name)}[{own}]"
            if key not in found:
                found[key] = distribution(requirement.name)
                waiting += [(Requirement(text), own) for text in found[key].requires or ()]
    return found


def link(packages: Path, requirements: Iterable[str], extra: str) -> None:
    """Let ``packages`` hold the declared dependencies and nothing else of this environment."""
    for found in needed(requirements, extra).values():
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(str(found.locate_file(top)))


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel beside the dependencies that it declares; this checkout is not there."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    made = call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=ROOT)
    assert made.returncode == 0, made.stderr
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    done = call(*pip, "--no-deps", "--no-index", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    (packages,) = folder.glob("lib/python3*/site-packages")
    (metadata,) = packages.glob("bayfed-*.dist-info/METADATA")
    declared = Parser().parsestr(metadata.read_text()).get_all("Requires-Dist") or []
    link(packages, declared, EXTRA)
    return folder / "bin" / "bayfed"


def test_nothing_but_the_wheel_and_what_it_declares_can_be_imported(
    command: Path, tmp_path: Path
) -> None:
    names = (
        "bayfed", "torch", "timm", "sklearn", "scipy", "matplotlib", "safetensors", "onnx",
        "clients", "server", "experiments", "flwr", "ray", "pytest",
    )  # fmt: skip
    lines = "from importlib.util import find_spec; import sys", f"for name in {names}:"
    show = "    spec = find_spec(name); print(spec.origin if spec else None)"
    done = call(command.with_name("python"), "-c", "\n".join([*lines, show]), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    places = dict(zip(names, done.stdout.split(), strict=True))
    assert Path(places["bayfed"]).is_relative_to(command.parents[1])
    assert {places[name] for name in names[1:]} == {"None"}


def test_the_wheel_holds_the_library_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"bayfed"}
    assert "bayfed/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_installed_command_shows_its_help(command: Path, tmp_path: Path) -> None:
    done = call(command, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("sites", "synthesise", "evaluate", "run"))


def test_the_installed_command_reads_a_folder(command: Path, tmp_path: Path) -> None:
    grey = np.full((32, 32, 3), 90, np.uint8)
    for number in range(6):
        path = tmp_path / "nut" / "train" / "good" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey + np.uint8(number)).save(path)
    done = call(command, "sites", tmp_path, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (site,) = json.loads(done.stdout)
    assert site["name"] == "nut"


def test_without_the_app_one_line_says_what_to_install(command: Path, tmp_path: Path) -> None:
    done = call(command, "run", "x.yaml", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "pip install" in line
    assert "[federation]" in line


@pytest.mark.parametrize("words", [("fit", "x", "--backbone", "y"), ("score", "x.bayfed", "y")])
def test_without_what_trains_one_line_says_what_to_install(
    command: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "y").write_text("")
    done = call(command, *words, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "pip install 'bayfed[train]'" in line


def test_an_exported_detector_is_scored_by_what_the_wheel_declares_alone(
    command: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason="the extra export is not installed")
    (tmp_path / "part.onnx").write_bytes(model())
    for number, value in enumerate((0, 255)):
        Image.fromarray(np.full((9, 7, 3), value, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_text("no picture")
    done = call(command, "score", "part.onnx", *(f"{i}.png" for i in range(3)), cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "scored" / "scores.jsonl").open()]
    assert [row["decision"] for row in rows] == ["ok", "defect", None]
    assert [row["score"] for row in rows] == [0.0, 1.0, None]
