"""The systems of a bench: an experiment each, made of presets and of what a file changes."""

from __future__ import annotations

from typing import Any, get_args

from bayfed.config.bench import Bench, Entry
from bayfed.config.experiment import Experiment, parse_experiment
from bayfed.config.methods import Method
from bayfed.config.tree import Tree, assign, merged
from bayfed.errors import ConfigError

_VARIANTS: dict[str, dict[str, Any]] = {
    "baypranometa-image": {"name": "baypranometa", "grain": "image"},
    "baypranometa-no-contrastive": {"name": "baypranometa", "loss": {"contrastive": 0.0}},
    "baypranometa-image-no-contrastive": {
        "name": "baypranometa",
        "grain": "image",
        "loss": {"contrastive": 0.0},
    },
}


def presets() -> dict[str, dict[str, Any]]:
    """Return name -> settings of ``method`` for everything that a bench knows by name.

    >>> presets()["patchcore"]
    {'name': 'patchcore'}
    """
    union, *_ = get_args(Method)
    names = [kind.model_fields["name"].default for kind in get_args(union)]
    return {name: {"name": name} for name in names} | _VARIANTS


def choose(bench: Bench, names: tuple[str, ...]) -> Bench:
    """Return ``bench`` with the systems ``names``, from its own file or from the presets.

    Raises:
        ConfigError: a name is neither.
    """
    known = presets()
    for name in names:
        if name not in bench.systems and name not in known:
            listed = ", ".join(sorted({*bench.systems, *known}))
            raise ConfigError(f"methods: no system is called {name!r} (there are: {listed})")
    chosen = {name: bench.systems.get(name, Entry()) for name in dict.fromkeys(names)}
    return bench.model_copy(update={"systems": chosen})


def build_systems(tree: Tree, bench: Bench, origin: str = "bench") -> dict[str, Experiment]:
    """Return name -> experiment of every system of ``bench``, its sweep included.

    A system keeps the file's own ``method`` settings if it is of the same method; a refinement
    goes around any method, so ``method.refine`` is for all of them.

    Args:
        tree: The experiment as it stands in the file.
        bench: What is compared.
        origin: The file, for messages.

    Raises:
        ConfigError: a preset is unknown, or a setting of a system is unknown or wrong.
    """
    own = tree.get("method") or {}
    entries = bench.systems or {str(own.get("name", Experiment().method.name)): Entry()}
    trees: dict[str, Tree] = {}
    for name, entry in entries.items():
        trees[name] = _tree_of(tree, name, entry)
        trees |= _swept(trees[name], name, bench)
    return {
        name: parse_experiment(changed, f"{origin}: system {name}")
        for name, changed in trees.items()
    }


def entry_of(bench: Bench, name: str) -> Entry:
    """Return the entry that the system ``name`` comes from, possibly by a sweep."""
    return bench.systems.get(name.partition(" ")[0], Entry())


def _tree_of(tree: Tree, name: str, entry: Entry) -> Tree:
    known, preset = presets(), entry.preset or name
    if preset not in known and (entry.preset or not entry.model_dump(exclude_defaults=True)):
        raise ConfigError(
            f"bench.systems.{name}: no preset is called {preset!r} "
            f"(there are: {', '.join(sorted(known))})"
        )
    changes = entry.model_dump(include={"backbone", "episode", "federation"})
    refine = (tree.get("method") or {}).get("refine")
    shared = {} if refine is None else {"refine": refine}
    method = merged({"method": known.get(preset, {}) | shared}, {"method": entry.method})
    if not _trains(method["method"].get("name")):
        # The file's rounds are for the systems beside it that have something to train.
        tree = merged(tree, {"federation": {"rounds": 0}})
    return merged(merged(tree, changes), method)


def _trains(name: object) -> bool:
    kinds = get_args(get_args(Method)[0])
    return all(kind().trains for kind in kinds if kind.model_fields["name"].default == name)


def _swept(tree: Tree, name: str, bench: Bench) -> dict[str, Tree]:
    trees = {}
    for key, values in bench.sweep.items():
        short = key.rpartition(".")[2]
        for value in values:
            changed = merged({}, _copy(tree))
            assign(changed, f"{key}={value}")
            trees[f"{name} {short}={value}"] = changed
    return trees


def _copy(tree: Tree) -> Tree:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in tree.items()}
