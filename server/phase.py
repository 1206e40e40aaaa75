"""What the server waits for at the moment, in a file that is only looked at."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def write(path: Path, name: str, answered: int, asked: int) -> None:
    """Say at ``path``, if there is room, that of the clients ``asked`` so many have answered."""
    with suppress(OSError):
        path.write_text(f"{name} {answered}/{asked}\n", encoding="utf-8")


def read(path: Path) -> str:
    """Return what the server has said last, empty if nothing, or if it is just being said."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return ""
    return text.rstrip("\n") if text.endswith("\n") else ""
