"""The same app on real nodes: a SuperLink and SuperNodes on loopback."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bayfed.errors import FederationError
from experiments.processes import Home, flower_home, free_port, start_superlink
from experiments.simulation import check, submit, wait
from server.job import Job

NodeConfig = Mapping[str, str]
"""What a node decides for itself: ``data-dir``, ``weights``, ``store-dir``."""


def deploy(job: Job, nodes: Sequence[NodeConfig]) -> None:
    """Run ``job`` on one SuperLink and one SuperNode for each of ``nodes``, then end them all.

    Raises:
        FederationError: the run failed; the message is the reason that the server gave.
    """
    job.out.mkdir(parents=True, exist_ok=True)
    job.outcome.unlink(missing_ok=True)
    with flower_home(job.out / "flower.log") as home:
        superlink = start_superlink(home)
        for partition, own in enumerate(nodes):
            start_supernode(home, superlink.port, partition, len(nodes), own)
        run = submit(home, job)
        wait(superlink, job, "flwr-serverapp")
        check(home, job, run)


def start_supernode(
    home: Home, port: int, partition: int, partitions: int, own: NodeConfig
) -> None:
    """Start the node of one factory, connected to the SuperLink on ``port``."""
    config = [f"partition-id={partition}", f"num-partitions={partitions}"]
    config += [f"{key}={_toml(value)}" for key, value in own.items()]
    home.start(
        [
            "flower-supernode",
            "--insecure",
            "--superlink",
            f"127.0.0.1:{port}",
            "--port",
            str(free_port()),
            "--node-config",
            " ".join(config),
        ]
    )


def _toml(value: str) -> str:
    if '"' in value or "\n" in value:
        raise FederationError(f"{value!r}: a quote or a line break cannot stand in a node's config")
    return json.dumps(value, ensure_ascii=False)


def folders(root: Path, count: int) -> list[Path]:
    """Return the first ``count`` folders in ``root``, one for each node.

    Raises:
        FederationError: there are fewer.
    """
    found = sorted(path for path in root.iterdir() if path.is_dir())[:count]
    if len(found) < count:
        raise FederationError(f"{root}: {count} folders are needed, {len(found)} found")
    return found
