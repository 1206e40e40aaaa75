"""A Ray cluster that runs already, on whose machines the clients of a simulation are played."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bayfed.errors import ConfigError, FederationError

ADDRESS, JOB = "RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Variables that Ray itself reads: which cluster, and what its workers need."""
OWN = "local"
"""Ray's word for a cluster of this run's own."""
SENT = ("OMP_NUM_THREADS", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
"""Variables that a worker on another machine has from the run and not from that machine."""
_PATIENCE = 60.0


@dataclass(frozen=True)
class Machine:
    """What a machine of the cluster has."""

    cpus: float
    gpus: float

    def workers(self, gpu_share: float) -> int:
        """Return how many actors of one CPU and ``gpu_share`` of a GPU Flower places there.

        >>> Machine(cpus=8, gpus=1).workers(0.25), Machine(cpus=8, gpus=0).workers(0.25)
        (4, 0)
        """
        return int(min(self.cpus, self.gpus / gpu_share) if gpu_share else self.cpus)


@dataclass(frozen=True)
class Cluster:
    """A running cluster, as far as a run must know it."""

    address: str
    machines: tuple[Machine, ...]

    def describe(self, gpu_share: float) -> str:
        """Return a line for the user.

        Raises:
            ConfigError: no worker has room.
        """
        workers = sum(machine.workers(gpu_share) for machine in self.machines)
        if not workers:
            raise ConfigError(
                f"{ADDRESS}: no machine of {self.address} has a CPU and "
                f"{gpu_share:g} of a GPU (federation.gpu_share) for a client"
            )
        return (
            f"Ray cluster {self.address}: machines {len(self.machines)}, workers {workers} "
            "(all of its CPUs, whatever federation.workers says)"
        )


def address() -> str | None:
    """Return the address of the cluster to use, ``None`` where the run is to start its own.

    Raises:
        ConfigError: it is the address of another service of Ray's.
    """
    named = os.environ.get(ADDRESS, "")
    if "://" in named:
        raise ConfigError(f"{ADDRESS}: {named}: give the cluster's HOST:PORT, or auto")
    return None if named in ("", OWN) else named


def find() -> Cluster | None:
    """Return the cluster that ``RAY_ADDRESS`` names, ``None`` where it names none.

    Raises:
        ConfigError: the variable does not hold such an address.
        FederationError: the cluster does not answer, or has another version of Ray or Python.
    """
    named = address()
    if named is None:
        return None
    _require_listener(named)
    # Ray is not for a process that only follows a run.
    command = [sys.executable, "-m", "experiments.ray_machines"]
    root = Path(__file__).resolve().parents[1]
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise FederationError(f"{ADDRESS}: {named}: no answer in {_PATIENCE:g} s") from error
    with suppress(ValueError, IndexError, TypeError):
        machines = [Machine(*each) for each in json.loads(done.stdout.splitlines()[-1])]
        return Cluster(named, tuple(machines))
    reason = " ".join(done.stderr.split("\n\n")[-1].split())[-300:]
    raise FederationError(f"{ADDRESS}: {named}: {reason or 'no answer'}")


def _require_listener(named: str) -> None:
    """Check that somebody listens there, for Ray itself would wait for ever.

    Raises:
        FederationError: nobody does.
    """
    host, _, port = named.rpartition(":")
    if not (host and port.isdecimal()):
        return  # "auto": Ray knows where to look
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except (OSError, OverflowError) as error:
        raise FederationError(f"{ADDRESS}: {named}: {error}") from error


def environment(app: Path, variables: dict[str, str]) -> dict[str, str]:
    """Return what Ray must find in the environment of a run.

    On a cluster each machine is sent the sources in ``app`` and the :data:`SENT` of ``variables``.
    Without ``RAY_ADDRESS`` Ray would join a cluster that happens to run on this machine.
    """
    named = address()
    if named is None:
        return {ADDRESS: OWN}
    sent = {name: variables[name] for name in SENT if name in variables}
    job = {"runtime_env": {"working_dir": str(app), "env_vars": sent}}
    # Within a job of Ray's, its submitter has said what the workers need.
    return {JOB: os.environ.get(JOB) or json.dumps(job)}
