"""The one schema of an experiment, read from YAML and changed by ``key=value``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from bayfed.config.bench import Bench, parse_bench
from bayfed.config.data import Data, Protocol
from bayfed.config.features import Backbone, Store
from bayfed.config.methods import BayPrAnoMeta, Method
from bayfed.config.privacy import check_privacy
from bayfed.config.settings import Settings, refusal
from bayfed.config.training import Episode, Evaluation, Federation
from bayfed.config.tree import Tree, read_tree

_HARMLESS = {
    "name": True,
    "store": {"directory"},
    "federation": {"backend", "batch", "rounds", "timeout", "track", "workers", "gpu_share"},
    "evaluation": {"heatmaps"},
}
"""Settings that may change between a run and its resumption: they do not change a number."""


class Experiment(Settings):
    """Everything that defines a run."""

    name: Annotated[str, Field(pattern=r"^[^/\\.\x00-\x1f][^/\\\x00-\x1f]*$")] = "experiment"
    """Also of the run's folder, hence no path."""
    seed: Annotated[int, Field(ge=0)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    data: Data = Data()
    protocol: Protocol = Protocol()
    backbone: Backbone = Backbone()
    store: Store = Store()
    method: Method = BayPrAnoMeta()
    episode: Episode = Episode()
    federation: Federation = Federation()
    evaluation: Evaluation = Evaluation()

    @field_validator("method", mode="before")
    @classmethod
    def _name_the_default(cls, value: object) -> object:
        # The name decides which settings there are, so it cannot be left to a field's default.
        if isinstance(value, dict) and "name" not in value:
            return {"name": BayPrAnoMeta().name, **value}
        return value

    @model_validator(mode="after")
    def _rounds_train_something(self) -> Experiment:
        if self.federation.rounds and not self.method.trains:
            raise ValueError(
                f"method.name: {self.method.name} has nothing to train; set federation.rounds to 0"
            )
        return self

    @model_validator(mode="after")
    def _promises_are_kept(self) -> Experiment:
        check_privacy(self.federation, self.method.pools_statistics)
        return self


def parse_experiment(tree: Tree, origin: str = "settings") -> Experiment:
    """Validate ``tree``; the error names ``origin`` and the key.

    >>> parse_experiment({"seed": 3}).seed
    3
    """
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise refusal(error, origin, key_of) from None


def key_of(location: Sequence[str | int]) -> str:
    """Return the dotted key of a place in an experiment, as a user writes it.

    >>> key_of(("method", "padim", "ridge"))  # the name that chose among the methods is no key
    'method.ridge'
    """
    keys = [str(part) for part in location]
    for chosen in (["method"], ["federation", "algorithm"]):
        if keys[: len(chosen)] == chosen and len(keys) > len(chosen) + 1:
            del keys[len(chosen)]
    return ".".join(keys)


def load_experiment(
    path: Path, overrides: Sequence[str] = (), bundled: Path | None = None
) -> Experiment:
    """Read an experiment from a YAML file and apply ``key.path=value`` overrides.

    Its ``base`` may be a file of the folder ``bundled``.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown or wrong.
    """
    return load_bench(path, overrides, bundled)[0]


def load_bench(
    path: Path, overrides: Sequence[str] = (), bundled: Path | None = None
) -> tuple[Experiment, Bench, Tree]:
    """Read an experiment and its section ``bench``, which a run has no use for.

    Returns:
        The experiment, the bench, and the experiment as it stands in the file.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown or wrong.
    """
    tree = read_tree(path, overrides, bundled)
    bench = parse_bench(tree.pop("bench", None), str(path))
    tree.pop("study", None)
    return parse_experiment(tree, str(path)), bench, tree


def dump_experiment(experiment: Experiment) -> str:
    """Return the YAML text of ``experiment``, every setting spelled out."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)


def experiment_hash(experiment: Experiment) -> str:
    """Return a hash of every setting that changes a result.

    >>> a = Experiment.model_validate({"federation": {"workers": 1}})
    >>> experiment_hash(a) == experiment_hash(Experiment())
    True
    """
    tree = experiment.model_dump(mode="json", exclude=_HARMLESS)  # type: ignore[arg-type]
    if experiment.backbone.sha256 is not None:
        del tree["backbone"]["weights"]  # what is in the file counts, not where it lies
    if experiment.federation.server.decay:
        # Where the rate falls, an earlier round depends on how many there will be.
        tree["federation"]["rounds"] = experiment.federation.rounds
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
