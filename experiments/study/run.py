"""A study from start to end."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from bayfed.config.study import Cell
from bayfed.errors import ConfigError, FederationError
from bayfed.folders import alone_in, make_folder
from experiments.parallel.board import Board
from experiments.parallel.schedule import Schedule
from experiments.parallel.task import Task
from experiments.study import work
from experiments.study.estimate import Pair, estimated, probed_pairs
from experiments.study.plan import Plan, check
from experiments.study.table import tabulate
from experiments.study.work import Cost
from server import outcome
from server.job import Job

PROBE, RUN = "probe", "run"
WORDS = {PROBE: "probed", RUN: "rounds trained"}


def run(plan: Plan, resume: bool, estimate: bool, console: Console) -> Path | None:
    """Run what has not been run, write tables, figures and the summary; return the last.

    Args:
        plan: The runs.
        resume: Go on with what is in the folder.
        estimate: Only say what it will cost.
        console: Where it is shown.

    Raises:
        BayfedError: a setting is wrong, or a run failed; the others are kept.
    """
    if plan.folder.exists() and not plan.folder.is_dir():
        raise ConfigError(f"{plan.folder}: not a folder")
    if not resume and (plan.folder / "runs").exists():
        raise ConfigError(f"{plan.folder}: holds a study already; --resume it or choose another")
    todo = plan.todo()
    check(todo)
    workers = min(plan.grid.workers or os.cpu_count() or 1, max(1, len(todo)))
    done = len(plan.jobs) - len(todo)
    _say(console, f"{plan.name}: {len(plan.jobs)} runs, {done} of them done, {plan.folder}")
    if not estimate:
        make_folder(plan.folder)  # before the probes: a folder that cannot be written is told now
    if todo:
        _say(console, estimated(todo, _probed(todo, workers, console), workers))
    if estimate:
        return None
    with alone_in(plan.folder):
        failed = _play(todo, workers, console)
        return _report(plan, failed, console)


def _probed(todo: Mapping[Cell, Job], workers: int, console: Console) -> dict[Pair, Cost]:
    """Return what runs cost, by the first rounds of some."""
    pairs = {cell.name: pair for pair, cell in probed_pairs(todo).items()}
    jobs = {cell.name: job for cell, job in todo.items() if cell.name in pairs}
    tasks = {
        name: Task(name, PROBE, f"probing {name}", work.probe, (job.experiment,))
        for name, job in jobs.items()
    }
    costs: dict[str, Cost] = {}
    failed = _schedule(tasks, costs.__setitem__, workers, console)
    if failed:
        name, reason = next(iter(failed.items()))
        raise FederationError(f"the first rounds of {name} failed: {reason}")
    return {pairs[name]: costs[name] for name in tasks}


def _play(todo: Mapping[Cell, Job], workers: int, console: Console) -> dict[str, str]:
    """Play the runs; return those that failed, and why."""
    tasks = {
        cell.name: Task(
            cell.name,
            RUN,
            cell.name,
            work.play,
            (job.experiment, job.out),
            size=max(1, job.experiment.federation.rounds),
            history=job.history,
        )
        for cell, job in todo.items()
    }
    return _schedule(tasks, lambda *_: None, workers, console)


def _schedule(
    tasks: Mapping[str, Task],
    finish: Callable[[str, Any], None],
    workers: int,
    console: Console,
) -> dict[str, str]:
    if not tasks:
        return {}
    with Board(tasks, WORDS, console) as board:
        schedule = Schedule(tasks, finish, board)
        schedule.run(min(workers, len(tasks)))
    return schedule.failed


def _report(plan: Plan, failed: Mapping[str, str], console: Console) -> Path:
    from experiments.study.plots import draw_all
    from experiments.study.report import write_summary

    runs = tabulate(plan.folder, plan.jobs)
    draw_all(plan.folder)
    path = write_summary(plan.folder, plan.name)
    diverged = [run.cell.name for run in runs if run.status == outcome.DIVERGED]
    if diverged:
        _say(console, f"diverged: {', '.join(diverged)}")
    _say(console, f"summary: {path}")
    if failed:
        name, reason = next(iter(failed.items()))
        raise FederationError(f"{len(failed)} runs failed, the first: {name}: {reason}")
    return path


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
