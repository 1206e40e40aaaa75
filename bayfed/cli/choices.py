"""Words of the command line that stand for one of a few choices."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from bayfed.errors import ConfigError

Choice = TypeVar("Choice", bound=StrEnum)


def choice(kind: type[Choice], text: str, option: str) -> Choice | None:
    """Return what ``text`` names, None where it is empty.

    Raises:
        ConfigError: it is none of the choices of ``option``.
    """
    if not text:
        return None
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"{option}: {text!r} is none of {', '.join(kind)}") from None
