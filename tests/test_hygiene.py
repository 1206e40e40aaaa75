from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES, MAX_LINES = 500_000, 500
# Written in parts, so that this file does not find itself.
FOLDERS = re.compile(
    rb"(?<![\w./-])/(?:" + b"|".join([b"home", b"work", b"root", b"Users"]) + b")/"
)
REGISTRIES = re.compile(rb"pypi\.|python" + rb"hosted|arti" + rb"factory|extra-" + rb"index-url")


def tracked() -> list[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def text(path: Path) -> bytes:
    data = path.read_bytes()
    return b"" if b"\0" in data else data


def test_no_file_is_large() -> None:
    assert [path for path in tracked() if path.stat().st_size > MAX_BYTES] == []


def test_no_file_is_long() -> None:
    assert [path for path in tracked() if text(path).count(b"\n") >= MAX_LINES] == []


@pytest.mark.parametrize("pattern", [FOLDERS, REGISTRIES])
def test_no_file_knows_the_machine_it_was_written_on(pattern: re.Pattern[bytes]) -> None:
    found = {path.relative_to(ROOT): pattern.search(text(path)) for path in tracked()}
    assert {path: hit.group() for path, hit in found.items() if hit} == {}
