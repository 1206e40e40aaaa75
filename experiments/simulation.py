"""A run on this machine: Flower's simulation, started, watched and ended."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable
from contextlib import suppress

from bayfed.config import dump_experiment
from bayfed.errors import DivergedError, FederationError
from experiments import cluster
from experiments.processes import Home, SuperLink, first_error, flower_home, start_superlink
from server import outcome, plants
from server.job import Job

_GRACE = 60.0
"""Seconds that Flower may take to start the run, or to end it after its last round."""


def simulate(job: Job, clients: int) -> None:
    """Run ``job`` in Flower's simulation and return when it has completed.

    Flower's exit codes say nothing of a run: it has completed if the SuperLink says so
    and the server has left an outcome that says so.

    Raises:
        FederationError: the run failed; the message is the reason that the server gave.
    """
    job.make_folder()
    with job.alone():  # what a killed runner has left may still write
        job.outcome.unlink(missing_ok=True)
    with outcome.recorded(job.outcome), flower_home(job.out / "flower.log") as home:
        own = cluster.environment(home.app, home.environment())
        superlink = start_superlink(home, ["--simulation"], own)
        run = submit(home, job, simulation_options(job, clients))
        wait(superlink, job, "flwr-simulation")
        check(home, job, run)


def simulation_options(job: Job, clients: int) -> str:
    """Return Flower's federation config: one actor a worker, or a CPU of a cluster."""
    settings = job.experiment.federation
    options = (
        f"num-supernodes={clients} client-resources-num-cpus=1 "
        f"client-resources-num-gpus={settings.gpu_share}"
    )
    if cluster.address() is not None:  # how many it has cannot be said by who joins it
        return options
    workers = min(settings.workers or os.cpu_count() or 1, clients)
    return f"{options} init-args-num-cpus={workers}"


def submit(home: Home, job: Job, options: str = "") -> str:
    """Hand ``job`` to the SuperLink and return Flower's number of the run."""
    words = f"out={shlex.quote(str(job.out))} resume={str(job.resume).lower()}"
    if job.plants is not None:
        listed = home.folder / "plants.json"
        plants.write(listed, job.plants)
        words += f" plants={shlex.quote(str(listed))}"
    experiment = home.folder / "experiment.yaml"
    experiment.write_text(dump_experiment(job.experiment), encoding="utf-8")
    config = home.folder / "run.toml"
    lines = f"experiment = {json.dumps(str(experiment))}\nset = {json.dumps(words)}\n"
    config.write_text(lines, encoding="utf-8")
    command = ["flwr", "run", str(home.app), "here", "--run-config", str(config)]
    federation = ["--federation-config", options] if options else []
    answer = json.loads(home.call([*command, *federation, "--format", "json"]))
    if not answer.get("run-id"):
        reason = " ".join(str(answer.get("error-message", "no reason given")).split())
        raise FederationError(f"Flower did not accept the run: {reason}")
    return str(answer["run-id"])


def wait(
    superlink: SuperLink, job: Job, program: str, check: Callable[[], object] = lambda: None
) -> None:
    """Return when the process of the run has ended, has failed, or lingers after the outcome.

    Args:
        superlink: It runs the server.
        job: What is run.
        program: That of the process.
        check: Called again and again; raises where there is nothing left to wait for.

    Raises:
        FederationError: the SuperLink is gone, or never started the server.
    """
    limit = time.monotonic() + _GRACE
    alive = seen = False
    while alive or not seen:
        if superlink.process.poll() is not None:
            raise FederationError("Flower's SuperLink is gone")
        check()
        alive = superlink.runs(program)
        seen = seen or alive
        if alive and not job.outcome.exists():
            limit = time.monotonic() + _GRACE
        if time.monotonic() > limit or is_failed(job):
            break
        time.sleep(0.2)
    if not seen and not is_failed(job):
        raise FederationError(f"Flower did not start the run within {_GRACE:g} s")


def check(home: Home, job: Job, run: str) -> None:
    """Check that the run has completed, in Flower's words and in the server's.

    Raises:
        FederationError: it has not; the message is the server's reason where it gave one.
    """
    said = outcome.read(job.outcome)
    if said.get("status") in outcome.UNHAPPY:
        kind = DivergedError if said.get("status") == outcome.DIVERGED else FederationError
        raise kind(said.get("reason") or "the server gave no reason")
    if not said:
        outcome.require_room(job.outcome)
    status = final_status(home, run)
    if status != "finished:completed" or said.get("status") != outcome.COMPLETED:
        _keep_log(home, run)
        raise FederationError(
            f"the run ended as {status or 'unknown'} ({first_error(home.log)}), see {home.log}"
        )


def _keep_log(home: Home, run: str) -> None:
    # What the server's process has written stands with the SuperLink only.
    with suppress(FederationError):
        text = home.call(["flwr", "log", run, "here", "--show"])
        with home.log.open("a", encoding="utf-8") as log:
            log.write(text)


def final_status(home: Home, run: str) -> str:
    """Return what Flower says of a run, once it has finished or after some time."""
    deadline = time.monotonic() + _GRACE
    while True:
        text = home.call(["flwr", "list", "here", "--run-id", run, "--format", "json"])
        status = str(json.loads(text)["runs"][0]["status"])
        if status.startswith("finished") or time.monotonic() > deadline:
            return status
        time.sleep(0.2)


def is_failed(job: Job) -> bool:
    """Return whether the server says that the run has failed: there is no more to wait for."""
    return outcome.read(job.outcome).get("status") in outcome.UNHAPPY
