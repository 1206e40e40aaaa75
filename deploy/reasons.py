"""Why a program of Flower has ended, as one line out of its log."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_EXIT = re.compile(r"Exit Code: \d+\s+(.+?)(?:\n\s*\n|For more information|\Z)", re.DOTALL)
_TELLING = re.compile(r"error|cannot|refused|not ", re.IGNORECASE)
_KNOWN = {
    "Failed to activate SuperNode": "the server does not know this node's key, or another node "
    "still holds its place",
    "certificate has expired": "the server's certificate has expired; its administrator must "
    "renew it",
    "401 Unauthorized": "the server does not accept this node's signature: its key "
    "was shut out, or a clock is wrong",
}
LONGEST = 300
_OWN = "bayfed: error: "


def reason(log: Path, start: int = 0) -> str:
    """Return the line of ``log`` that tells most of why its program has ended.

    Args:
        log: Where the program has written to.
        start: From which byte on.
    """
    text = ""
    with suppress(OSError), log.open("rb") as file:
        file.seek(start)
        text = _COLOURS.sub("", file.read().decode(errors="replace"))
    return told(text)


def told(text: str) -> str:
    r"""Return the line of a log that tells most.

    >>> told("INFO: up\nERROR: Exit Code: 305\nNo\nconnection.\n\nFor more information, visit")
    'No connection.'
    >>> told("")
    'its log is empty'
    """
    for words, meaning in _KNOWN.items():
        if words in text:
            return meaning
    if said := _EXIT.findall(text):
        return " ".join(said[-1].split())[:LONGEST]
    lines = [" ".join(line.split()) for line in text.split("\n") if line.strip()]
    telling = [line for line in lines if _TELLING.search(line) and not line.startswith("INFO")]
    return (telling or lines or ["its log is empty"])[-1].removeprefix(_OWN)[:LONGEST]
