"""What a study is asked to do, and where its runs are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bayfed.config import Experiment, experiment_hash, load_experiment
from bayfed.config.study import Cell, Study, load_study
from bayfed.errors import ConfigError
from experiments.resolve import BUNDLED, absolute, find
from server import outcome
from server.job import Job

ENDED = frozenset({outcome.COMPLETED, outcome.DIVERGED})


@dataclass(frozen=True)
class Plan:
    """The runs of a study.

    Attributes:
        name: Of the study.
        folder: Where it writes.
        grid: What was asked for.
        jobs: The runs, each in a folder of its own.
    """

    name: str
    folder: Path
    grid: Study
    jobs: Mapping[Cell, Job]

    def todo(self) -> dict[Cell, Job]:
        """Return the runs that have not ended.

        Raises:
            ConfigError: one that has ended was run with other settings.
        """
        return {cell: job for cell, job in self.jobs.items() if not _has_ended(job)}


def plan(experiment: str, overrides: Sequence[str], out: Path, base: Path) -> Plan:
    """Return the runs that a file asks for.

    Args:
        experiment: A YAML file, or the name of a bundled experiment.
        overrides: ``key.path=value`` texts.
        out: The folder of the study.
        base: The folder that relative paths start from.

    Raises:
        BayfedError: a setting is wrong, or a partition into clients is impossible.
    """
    path = find(experiment, base)
    cells, grid = load_study(path, overrides, BUNDLED)
    name, folder = path.stem, (base / out.expanduser()).resolve()
    jobs = {}
    for cell, settings in cells.items():
        jobs[cell] = Job(_here(absolute(settings, base)), folder / "runs" / cell.name)
    return Plan(name, folder, grid, jobs)


def check(jobs: Mapping[Cell, Job]) -> None:
    """Check what every run would find wrong, before the first one starts.

    Raises:
        BayfedError: the error names the cell.
    """
    from clients.preflight import check_settings

    seen = set()
    for cell, job in jobs.items():
        if (key := (cell.heterogeneity, cell.seed)) in seen:
            continue
        seen.add(key)
        try:
            check_settings(job.experiment)
        except ConfigError as error:
            raise ConfigError(f"study: {cell.heterogeneity}, seed {cell.seed}: {error}") from error


def _here(experiment: Experiment) -> Experiment:
    """Let a run stay in its process: the study has one for each core."""
    federation = experiment.federation
    if federation.backend != "ray":
        return experiment
    return experiment.model_copy(
        update={"federation": federation.model_copy(update={"backend": "inprocess"})}
    )


def _has_ended(job: Job) -> bool:
    if outcome.read(job.outcome).get("status") not in ENDED:
        return False
    before = load_experiment(job.out / "config.yaml")
    if (before.federation.rounds, experiment_hash(before)) != (
        job.experiment.federation.rounds,
        experiment_hash(job.experiment),
    ):
        raise ConfigError(f"{job.out}: was run with other settings; choose another folder (--out)")
    return True
