"""What the page says of settings that go together is what the schema says."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from bayfed.config import parse_experiment
from bayfed.errors import ConfigError

PAGE = Path(__file__).resolve().parents[1] / "strategies" / "README.md"
SETTINGS: dict[str, dict[str, Any]] = {
    "robust rule": {"defence": {"rule": "median"}},
    "norm check": {"defence": {"norm": 3.0}},
    "residuals": {"personal": ["prior"]},
    "regions": {"regions": {"sites": {"n": ["a"]}}},
    "largest coordinates": {"uplink": {"keep": 0.1}},
    "drawn coordinates": {"uplink": {"keep": 0.1, "select": "random"}},
    "few bits up": {"uplink": {"bits": 8}},
    "few bits down": {"downlink": {"bits": 8}},
    "deadline": {"deadline": 5.0},
    "secure sums": {"secure": {"clip": 1.0}},
    "private clients": {"privacy": {"level": "client", "noise": 1.0}, "uplink": {"clip": 1.0}},
    "private images": {"privacy": {"level": "image", "noise": 1.0, "clip": 1.0}},
    "another algorithm": {"algorithm": {"name": "ditto"}},
}

EXCLUSIVE = [("private clients", "private images"), ("largest coordinates", "drawn coordinates")]
"""Two values of one setting."""


def merged(*trees: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for tree in trees:
        for key, value in tree.items():
            both = isinstance(value, dict) and key in result
            result[key] = {**result[key], **value} if both else value
    return result


def goes(*names: str) -> str:
    try:
        parse_experiment({"federation": merged(*(SETTINGS[name] for name in names))})
    except ConfigError as error:
        return str(error)
    return ""


def table() -> dict[tuple[str, str], str]:
    lines = PAGE.read_text(encoding="utf-8").split("## What goes together")[1].splitlines()
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    head = rows[0][1:]
    return {
        (row[0], name): cell
        for row in rows[2:]
        for name, cell in zip(head, row[1:], strict=True)
        if cell
    }


def test_every_pair_is_in_the_table_once() -> None:
    found = [frozenset(pair) for pair in table()]
    expected = {frozenset(pair) for pair in itertools.combinations(SETTINGS, 2)}
    assert len(found) == len(set(found))
    assert set(found) == expected - {frozenset(pair) for pair in EXCLUSIVE}


@pytest.mark.parametrize("name", SETTINGS)
def test_each_goes_alone(name: str) -> None:
    assert goes(name) == ""


@pytest.mark.parametrize("pair", table(), ids=" + ".join)
def test_the_table_is_the_schema(pair: tuple[str, str]) -> None:
    assert (goes(*pair) == "") == (table()[pair] == "yes"), goes(*pair)
