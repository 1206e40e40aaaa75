"""A job from start to end, on the backend that its settings name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from bayfed.config import FULL
from clients.partition import client_specs
from experiments.progress import follow
from server.job import Job


def run(job: Job, console: Console) -> Path:
    """Run ``job``, show its progress and its results, and return the path of the report.

    Raises:
        BayfedError: the run failed.
    """
    clients = len(client_specs(job.experiment))
    console.print(
        f"{job.experiment.name}: {clients} clients, {job.out}", markup=False, highlight=False
    )
    backbone = job.experiment.backbone
    if backbone.weights is not None:
        shown = f"weights: {backbone.weights.name}, sha256 {backbone.sha256}"
        console.print(shown, markup=False, highlight=False, soft_wrap=True)
    if job.experiment.federation.backend == "ray":
        from experiments import cluster

        joined = cluster.find()
        if joined is not None:
            told = joined.describe(job.experiment.federation.gpu_share)
            console.print(told, markup=False, highlight=False, soft_wrap=True)
    with follow(job, console):
        start(job, clients)
    if not job.report.exists():
        from experiments.finish import finish_run

        finish_run(job.out, simulated=True)
    return show(job, console)


def show(job: Job, console: Console) -> Path:
    """Show the results of a run that has ended, and return the path of its report.

    Raises:
        BayfedError: a file of the run cannot be read.
    """
    # Late: while the run goes on, this process is to be small.
    from bayfed.evaluation.summary import print_summary, select
    from bayfed.evaluation.table import read_rows

    shots = job.experiment.evaluation.shots
    asked = {"full_support": 1} if shots == FULL else {"shots": shots}
    rows = select(read_rows(job.results), **asked)
    print_summary(rows, console)
    console.print(f"report: {job.report}", markup=False, highlight=False, soft_wrap=True)
    return job.report


def start(job: Job, clients: int) -> None:
    """Run ``job`` on its backend.

    Raises:
        BayfedError: the run failed.
    """
    if job.experiment.federation.backend == "ray":
        from experiments.simulation import simulate

        simulate(job, clients)
    else:
        run_in_process(job, clients)


def run_in_process(job: Job, clients: int) -> None:
    """Run ``job`` in this process, its clients one after the other, and write its report.

    Raises:
        BayfedError: the run failed.
    """
    from experiments.finish import finish_run

    _serve(job, clients, lambda job: finish_run(job.out, simulated=True))


def train_in_process(job: Job) -> None:
    """Run ``job`` in this process; nobody reads a report of it.

    Raises:
        BayfedError: the run failed.
    """
    _serve(job, len(client_specs(job.experiment)), lambda _: None)


def _serve(job: Job, clients: int, finish: Callable[[Job], object]) -> None:
    from importlib import import_module

    from clients.app import app
    from experiments.inprocess import BatchedGrid, InProcessGrid, flower_identity
    from server.app import serve

    problem: Any = import_module("clients.factory")
    settings = job.experiment.federation
    batched = settings.backend == "batched"
    with flower_identity():
        grid = BatchedGrid(app, clients, settings.batch) if batched else InProcessGrid(app, clients)
        serve(grid, job, problem, finish)
