"""What a node decides for itself: its folders, its device, and what it refuses."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TypeVar

from bayfed.config import Experiment, Settings
from bayfed.data import site_names
from bayfed.episodes import check_families
from bayfed.errors import ConfigError

Group = TypeVar("Group", bound=Settings)
KEYS = ("data-dir", "weights", "store-dir")
"""How a node's own configuration calls its paths."""
_in_process: ContextVar[bool] = ContextVar("in_process", default=False)


@dataclass(frozen=True)
class LocalPaths:
    """Folders and files of this machine, from the node's own configuration.

    A node with a ``data_dir`` is one factory: all sites found there.
    """

    data_dir: Path | None = None
    weights: Path | None = None
    store_dir: Path | None = None

    @classmethod
    def of(cls, node_config: Mapping[str, object]) -> LocalPaths:
        """Read :data:`KEYS` of ``--node-config``.

        >>> LocalPaths.of({"data-dir": "/data", "partition-id": 0}).data_dir
        PosixPath('/data')
        """
        return cls(*(Path(str(node_config[key])) if key in node_config else None for key in KEYS))

    def hidden(self, text: str) -> str:
        """Return what others may read of ``text``: each path under the key that it is set by.

        >>> LocalPaths(data_dir=Path("/srv/line3")).hidden("/srv/line3/tire/1.png: cut short")
        'data-dir/tire/1.png: cut short'
        """
        own = [(str(path), key) for path, key in zip(astuple(self), KEYS, strict=True) if path]
        for path, key in sorted(own, key=lambda pair: len(pair[0]), reverse=True):
            text = text.replace(path, key)
        return text


@contextmanager
def in_process() -> Iterator[None]:
    """Mark the calls inside as those of a simulation in this very process."""
    token = _in_process.set(True)
    try:
        yield
    finally:
        _in_process.reset(token)


def simulated() -> bool:
    """Return whether this process plays a factory instead of being one.

    Decided by what runs here, never by what a message says.
    """
    ray = sys.modules.get("ray")
    return _in_process.get() or (ray is not None and bool(ray.is_initialized()))


def localise(experiment: Experiment, paths: LocalPaths) -> Experiment:
    """Return ``experiment`` as this machine sees it: its own paths, and its own sites by name.

    Raises:
        BayfedError: on a real node, a path named by the server has no local counterpart, weights
            would have to be fetched, or the names do not fit the node's sites.
    """
    named = {
        "data.root": (experiment.data.root, paths.data_dir, "data-dir"),
        "backbone.weights": (experiment.backbone.weights, paths.weights, "weights"),
        "store.directory": (experiment.store.directory, paths.store_dir, "store-dir"),
    }
    for key, (remote, local, option) in named.items():
        if remote is not None and local is None and not simulated():
            raise ConfigError(
                f"{key}: this node opens no path named by the server, "
                f"give it {option} in its own --node-config"
            )
    if experiment.backbone.pretrained and paths.weights is None and not simulated():
        raise ConfigError(
            "backbone.pretrained: this node fetches no weights for the server, "
            "give it weights in its own --node-config"
        )
    own = experiment.model_copy(
        update={
            "data": _replace(experiment.data, "root", paths.data_dir),
            "backbone": _replace(experiment.backbone, "weights", paths.weights),
            "store": _replace(experiment.store, "directory", paths.store_dir),
        }
    )
    return own if paths.data_dir is None else _with_own_names(own)


def _with_own_names(experiment: Experiment) -> Experiment:
    """Leave out the names of sites and families that only other nodes have."""
    data, protocol = experiment.data, experiment.protocol
    family_of = _own_families(experiment)
    families = {f: tuple(n for n in names if n in family_of) for f, names in data.families.items()}
    sites = {"sites": tuple(family_of), "families": families}
    known = {*family_of.keys(), *family_of.values()}
    holdout = {"holdout": tuple(name for name in protocol.holdout if name in known)}
    return experiment.model_copy(
        update={
            "data": data.model_copy(update=sites),
            "protocol": protocol.model_copy(update=holdout),
        }
    )


def _own_families(experiment: Experiment) -> dict[str, str]:
    """Return the node's sites, those that take part, and the family of each.

    Raises:
        ConfigError: no site of this node takes part.
        ProtocolError: a family would be split, which the settings show though the folder may not.
    """
    data = experiment.data
    everything = data.model_copy(update={"sites": (), "families": {}})
    here = dict(site_names(everything, experiment.seed))
    listed = {name: family for family, names in data.families.items() for name in names}
    taking_part = data.sites or {*here, *listed}
    every = {n: family for n, family in {**here, **listed}.items() if n in taking_part}
    check_families(every.items(), experiment.protocol)
    own = {name: family for name, family in every.items() if name in here}
    if not own:
        raise ConfigError(f"data.sites: this node has none of {', '.join(data.sites)}")
    return own


def _replace(group: Group, field: str, value: Path | None) -> Group:
    return group if value is None else group.model_copy(update={field: value})
