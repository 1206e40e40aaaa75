"""The section ``study`` of an experiment file: which strategies meet which differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, ValidationError

from bayfed.config.bench import Name
from bayfed.config.experiment import Experiment, parse_experiment
from bayfed.config.settings import Count, Settings, refusal
from bayfed.config.tree import Tree, merged, read_tree
from bayfed.errors import ConfigError


class Cell(NamedTuple):
    """One run of a study."""

    strategy: str
    heterogeneity: str
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.strategy}-{self.heterogeneity}-{self.seed}"


class Study(Settings):
    """The grid of a study; the experiment around it is what all runs share.

    >>> strategies = {"one": {"server": {"lr": 0.1}}, "two": {"server": {"lr": 0.2}}}
    >>> [cell.name for cell in Study(strategies=strategies, seeds=1).cells(5)]
    ['one-sites-5', 'two-sites-5']
    """

    strategies: Annotated[dict[Name, Tree], Field(min_length=1)]
    """Name -> what is changed in ``federation``. The first is what the others are compared with."""
    heterogeneity: Annotated[dict[Name, Tree], Field(min_length=1)] = {"sites": {}}
    """Name -> what is changed in the experiment: its clients, its data."""
    seeds: Count = 1
    """Replicates: the experiment's seed and those after it."""
    workers: Count | None = None
    """Processes; empty = one for each core."""

    def cells(self, seed: int) -> Iterator[Cell]:
        """Yield every run, where ``seed`` is the experiment's."""
        seeds = range(seed, seed + self.seeds)
        for replicate, differences, strategy in product(seeds, self.heterogeneity, self.strategies):
            yield Cell(strategy, differences, replicate)


def parse_study(tree: object, origin: str = "study") -> Study:
    """Check the section ``study`` of a file; the error names ``origin`` and the key.

    Raises:
        ConfigError: a key is unknown or wrong, or two runs would have one name.

    >>> parse_study({"strategies": {"a": {"algorithm": {"name": "fedprox"}}}}).seeds
    1
    """
    try:
        study = Study.model_validate({} if tree is None else tree)
    except ValidationError as error:
        raise refusal(error, origin, lambda loc: ".".join(["study", *map(str, loc)])) from None
    names = [cell.name for cell in study.cells(0)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(
            f"{origin}: study.strategies: two runs are called {twice[0]}; name them otherwise"
        )
    return study


def experiments_of(tree: Mapping[str, Any], study: Study, origin: str) -> dict[Cell, Experiment]:
    """Return the experiment of every run.

    Args:
        tree: The settings that all share, as they stand in a file.
        study: The grid.
        origin: Named by an error.

    Raises:
        ConfigError: a strategy does not fit a heterogeneity; the error names both.
    """
    seed = parse_experiment(dict(tree), origin).seed
    found = {}
    for cell in study.cells(seed):
        place = f"{origin}: study: {cell.strategy} under {cell.heterogeneity}"
        own = merged(tree, study.heterogeneity[cell.heterogeneity])
        strategy = study.strategies[cell.strategy]
        own = merged(own, {"federation": strategy, "seed": cell.seed, "name": cell.name})
        found[cell] = parse_experiment(own, place)
    return found


def load_study(
    path: Path, overrides: Sequence[str] = (), bundled: Path | None = None
) -> tuple[dict[Cell, Experiment], Study]:
    """Read the experiments of a study from a YAML file and apply ``key.path=value`` overrides.

    Raises:
        ConfigError: the file cannot be read, has no study, or a setting is unknown or wrong.
    """
    tree = read_tree(path, overrides, bundled)
    if "study" not in tree:
        raise ConfigError(f"{path}: has no section 'study'")
    study = parse_study(tree.pop("study"), str(path))
    tree.pop("bench", None)
    return experiments_of(tree, study, str(path)), study
