"""Settings as they stand in a YAML file, before they are checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bayfed.errors import ConfigError

Tree = dict[str, Any]
CHOSEN = {"method": "baypranometa", "protocol": "standard", "algorithm": "average"}
"""Groups whose ``name`` decides which settings they have, and the name they have by default."""
_DEEPEST = 8


def read_tree(path: Path, overrides: Sequence[str] = (), bundled: Path | None = None) -> Tree:
    """Return the settings of a YAML file, changed by ``key.path=value`` texts, later ones win.

    They stand over those of the file that its ``base`` names, which lies beside it, or is one of
    the folder ``bundled`` that is named with or without its ending.

    Raises:
        ConfigError: a file cannot be read, or is no mapping of settings, or a text is no change.
    """
    tree = _read_over(path, 0, bundled)
    for text in overrides:
        assign(tree, text)
    return tree


def _read_over(path: Path, depth: int, bundled: Path | None) -> Tree:
    tree = _read(path)
    base = tree.pop("base", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base: the name of a file is expected")
    if depth >= _DEEPEST:
        raise ConfigError(f"{path}: base: more than {_DEEPEST} files stand on each other")
    return merged(_read_over(_based(path, base, bundled), depth + 1, bundled), tree)


def _based(path: Path, base: str, bundled: Path | None) -> Path:
    """Return the file that ``base`` names: beside the one that stands on it, or a bundled one."""
    beside = path.parent / base
    if beside.exists() or bundled is None or Path(base).name != base:
        return beside
    there = bundled / Path(base).with_suffix(".yaml")
    return there if there.is_file() else beside


def _read(path: Path) -> Tree:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # also no UTF-8, or a date out of range
        raise ConfigError(f"{path}: not a YAML file") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a mapping of settings is expected")
    return tree


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """Return ``base`` changed by ``over``, group by group; another method begins anew.

    >>> merged({"seed": 1, "method": {"top_k": 0.1}}, {"method": {"name": "padim"}})
    {'seed': 1, 'method': {'name': 'padim'}}
    """
    tree = dict(base)
    for key, value in over.items():
        old = tree.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and _agree(key, old, value):
            value = merged(old, value)
        tree[key] = value
    return tree


def _agree(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    default = CHOSEN.get(key)
    name = old.get("name", default)
    return default is None or new.get("name", name) == name


def assign(tree: Tree, text: str) -> None:
    """Change one setting of ``tree``, given as ``key.path=value``.

    Raises:
        ConfigError: the text is not of that form, or the key is inside a value.
    """
    key, found, value = text.partition("=")
    if not found or not key.strip():
        raise ConfigError(f"setting {text!r} is not of the form key=value")
    *path, last = key.strip().split(".")
    node = tree
    for part in path:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(f"setting {key!r}: {part!r} is a value, not a group")
        node = child
    try:
        node[last] = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"setting {key!r}: {value[:60]!r} is not a YAML value") from error
