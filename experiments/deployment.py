"""The same app on real nodes: a SuperLink and SuperNodes on loopback."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bayfed.errors import FederationError
from experiments.processes import (
    ROOT,
    Home,
    Program,
    flower_home,
    free_port,
    start_superlink,
    with_app,
)
from experiments.simulation import check, submit, wait
from server import outcome
from server.job import Job

NodeConfig = Mapping[str, int | str]
"""What a node decides for itself: ``data-dir``, ``weights``, ``store-dir``."""


def deploy(job: Job, nodes: Sequence[NodeConfig]) -> None:
    """Run ``job`` on one SuperLink and one SuperNode for each of ``nodes``, then end them all.

    Raises:
        FederationError: the run failed; the message is the reason that the server gave.
    """
    job.make_folder()
    with job.alone():  # what a killed runner has left may still write
        job.outcome.unlink(missing_ok=True)
    with outcome.recorded(job.outcome), flower_home(job.out / "flower.log") as home:
        ports = [free_port() for _ in nodes]
        superexec = start_superexec(home, ports)  # first, for it has the most to load
        superlink = start_superlink(home)
        for partition, (port, own) in enumerate(zip(ports, nodes, strict=True)):
            place: NodeConfig = {"partition-id": partition, "num-partitions": len(nodes)}
            start_supernode(home, superlink.port, port, {**place, **own})
        run = submit(home, job)
        # A node may be lost, by the quorum; without this program no node answers.
        wait(superlink, job, "flwr-serverapp", superexec.require)
        check(home, job, run)


def start_supernode(home: Home, superlink: int, port: int, config: NodeConfig) -> None:
    """Start the node of one factory on ``port``, connected to the port ``superlink``."""
    home.start(
        [
            *("flower-supernode", "--insecure", "--isolation", "process"),
            *("--superlink", f"127.0.0.1:{superlink}"),
            *("--port", str(port)),
            *("--node-config", node_config(config)),
        ]
    )


def start_superexec(home: Home, ports: Sequence[int]) -> Program:
    """Start what runs the clients of the nodes on ``ports``."""
    addresses = [f"127.0.0.1:{port}" for port in ports]
    command = [sys.executable, "-P", str(ROOT / "experiments" / "superexec.py"), *addresses]
    log = home.log.with_name("superexec.log")
    return Program("experiments.superexec", home.start(command, log, with_app()), log)


def node_config(config: NodeConfig) -> str:
    """Return ``config`` as Flower's option takes it.

    >>> node_config({"partition-id": 0, "data-dir": "/data"})
    'partition-id=0 data-dir="/data"'

    Raises:
        FederationError: a value holds a quote or a line break.
    """
    return " ".join(f"{key}={_toml(own)}" for key, own in config.items())


def _toml(value: int | str) -> str:
    if {'"', "\n"} & set(str(value)):
        raise FederationError(f"{value!r}: a quote or a line break cannot stand in a node's config")
    return json.dumps(value, ensure_ascii=False)


def folders(root: Path, count: int) -> list[Path]:
    """Return the first ``count`` folders in ``root``, one for each node.

    Raises:
        FederationError: there are fewer, or ``root`` cannot be read.
    """
    try:
        found = sorted(path for path in root.iterdir() if path.is_dir())[:count]
    except OSError as error:
        raise FederationError(f"{root}: {error.strerror or error}") from error
    if len(found) < count:
        raise FederationError(f"{root}: {count} folders are needed, {len(found)} found")
    return found
