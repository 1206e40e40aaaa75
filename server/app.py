"""The Flower ServerApp."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from bayfed.config import dump_experiment
from bayfed.errors import BayfedError, FederationError, one_line
from bayfed.evaluation.atomic import write_atomic
from server import outcome
from server.disk import written
from server.exchange import in_simulation
from server.job import Job
from server.problem import Problem
from server.rounds import run_rounds

log = logging.getLogger("bayfed.server")
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the experiment named in Flower's run config."""
    # The runner and the clients are rooms that this one does not depend on; the app joins them.
    resolve: Callable[[Any], Job] = import_module("experiments.resolve").from_run_config
    problem: Any = import_module("clients.factory")
    simulated = in_simulation(grid)

    def finish(job: Job) -> None:
        import_module("experiments.finish").finish_run(job.out, simulated)

    serve(grid, resolve(context.run_config), problem, finish)


def serve(
    grid: Grid, job: Job, problem: Problem, finish: Callable[[Job], object] = lambda _: None
) -> None:
    """Run ``job`` to its end, and leave in its folder a file that says how it ended.

    Raises:
        BayfedError: the run failed; the same line stands in ``outcome.json``.
    """
    torch.set_num_threads(1)
    job.make_folder()
    with job.alone():
        job.outcome.unlink(missing_ok=True)
        settings = job.out / "config.yaml"
        with written(settings, kind=FederationError):
            write_atomic(settings, dump_experiment(job.experiment).encode())
        with _log_file(job.out / "server.log"):
            log.info("run folder: %s", job.out)
            try:
                _serve(grid, job, problem, finish)
            finally:
                job.phase.unlink(missing_ok=True)


def _serve(grid: Grid, job: Job, problem: Problem, finish: Callable[[Job], object]) -> None:
    try:
        run_rounds(grid, job, problem)
    except BaseException as error:
        reason = one_line(error)
        log.error("%s", reason, exc_info=not isinstance(error, BayfedError))
        outcome.record(job.outcome, error)
        if isinstance(error, BayfedError) or not isinstance(error, Exception):
            raise
        raise FederationError(reason) from error
    said = _finish(job, finish)
    with written(job.outcome, kind=FederationError):
        outcome.write(job.outcome, outcome.COMPLETED, said)


def _finish(job: Job, finish: Callable[[Job], object]) -> str:
    # A run of hours is not lost because its report could not be drawn.
    try:
        finish(job)
    except Exception as error:
        log.exception("no report")
        return f"no report: {one_line(error)}"
    return ""


class _Log(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Say nothing: a full disk is told by what cannot go on for it."""


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    root, handler = logging.getLogger("bayfed"), _Log(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(before)
        root.removeHandler(handler)
        handler.close()
