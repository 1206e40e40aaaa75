"""Who may take part in a run on a network, where somebody who knows has said so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bayfed.errors import ConfigError
from bayfed.evaluation.atomic import write_atomic


@dataclass(frozen=True)
class Plant:
    """A plant as the administrator of the federation knows it.

    Attributes:
        number: Its partition-id.
        name: What the administrator calls it.
    """

    number: int
    name: str


@dataclass(frozen=True)
class Plants:
    """The authority over numbers, names and how many there are.

    Attributes:
        count: How many a run counts on.
        by_node: By the number under which Flower knows a plant's key.
    """

    count: int
    by_node: Mapping[int, Plant]


def write(path: Path, plants: Plants) -> None:
    """Write ``plants`` as JSON."""
    members = {str(n): {"number": p.number, "name": p.name} for n, p in plants.by_node.items()}
    text = json.dumps({"count": plants.count, "members": members}, indent=1)
    write_atomic(path, text.encode() + b"\n")


def read(path: Path) -> Plants:
    """Return what :func:`write` has written.

    Raises:
        ConfigError: the file cannot be read, or two plants have one number.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        by_node = {
            int(node): Plant(int(plant["number"]), str(plant["name"]))
            for node, plant in found["members"].items()
        }
        plants = Plants(int(found["count"]), by_node)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path}: not a list of plants") from error
    if len({plant.number for plant in by_node.values()}) < len(by_node):
        raise ConfigError(f"{path}: two plants have one number")
    return plants
