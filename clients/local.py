"""What a node decides for itself: its folders, its device, and what it refuses."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bayfed.config import Clients, Experiment, Settings
from bayfed.errors import ConfigError

Group = TypeVar("Group", bound=Settings)
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
        """Read the keys ``data-dir``, ``weights`` and ``store-dir`` of ``--node-config``.

        >>> LocalPaths.of({"data-dir": "/data", "partition-id": 0}).data_dir
        PosixPath('/data')
        """
        keys = ("data-dir", "weights", "store-dir")
        return cls(*(Path(str(node_config[key])) if key in node_config else None for key in keys))


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
    """Return ``experiment`` with the paths of this machine in place of the server's.

    Raises:
        ConfigError: on a real node, a path named by the server has no local counterpart.
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
    federation = experiment.federation
    if paths.data_dir is not None:
        # The server's way of dividing sites is about its own folder, not about this one.
        one = Clients(partition="group", number=1)
        federation = federation.model_copy(update={"clients": one})
    return experiment.model_copy(
        update={
            "federation": federation,
            "data": _replace(experiment.data, "root", paths.data_dir),
            "backbone": _replace(experiment.backbone, "weights", paths.weights),
            "store": _replace(experiment.store, "directory", paths.store_dir),
        }
    )


def _replace(group: Group, field: str, value: Path | None) -> Group:
    return group if value is None else group.model_copy(update={field: value})
