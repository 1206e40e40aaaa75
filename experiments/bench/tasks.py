"""From cells to tasks: features, then trainings, then measurements, each done once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from bayfed.config import Experiment
from experiments.bench import work
from experiments.bench.arms import Training, is_unseen, names_of
from experiments.bench.plan import Cell, Measurement
from experiments.parallel.task import Task

FEATURES, TRAINING, MEASURING = "features", "training", "measuring"
WORDS = {FEATURES: "sites read", TRAINING: "rounds trained", MEASURING: "measured"}
"""What a progress bar counts."""


class Tasks:
    """The tasks behind some cells, in the order in which the cells want them."""

    def __init__(self, cells: Sequence[Cell], trainings: Path) -> None:
        self._folder = trainings
        self._roles = _roles(cells)
        self.all: dict[str, Task] = {}
        for cell in cells:
            for measurement in (*cell.scored, *cell.calibrating):
                self._measuring(measurement)

    def _measuring(self, measured: Measurement) -> str:
        if measured.key in self.all:
            return measured.key
        training = measured.training
        needs = [self._features(measured.experiment, measured.site, painted=False)]
        if training is not None:
            needs.append(self._training(training))
        scores, calibrates = self._roles[measured.key]
        return self._add(
            Task(
                measured.key,
                MEASURING,
                f"measuring {measured.experiment.method.name} at {measured.site}",
                work.measure,
                (measured.experiment, training, measured.site, self._folder, scores, calibrates),
                tuple(needs),
            )
        )

    def _training(self, training: Training) -> str:
        if training.key in self.all:
            return training.key
        experiment = training.experiment
        sites = [name for name, _ in names_of(experiment)]
        needs = [self._features(experiment, site, painted=True) for site in sites]
        if training.start is not None:
            needs.append(self._training(training.start))
        return self._add(
            Task(
                training.key,
                TRAINING,
                f"training {training.folder}",
                work.train,
                (training, self._folder),
                tuple(needs),
                max(1, training.rounds),
                self._folder / training.folder / "metrics.jsonl",
            )
        )

    def _features(self, experiment: Experiment, site: str, painted: bool) -> str:
        """Add the task of what is read of ``site``; the painted defects are one more."""
        parts = (
            experiment.data.model_dump_json(exclude={"sites", "families"}),
            experiment.backbone.model_dump_json(),
            experiment.store.model_dump_json(),
            experiment.method.grain,
            experiment.seed,
            is_unseen(experiment, site) and experiment.data.synthetic.held_out_kinds,
            site,
            painted,
        )
        key = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
        if key not in self.all:
            # Whole sites first, so that two tasks of one site do not compute the same.
            needs = (self._features(experiment, site, painted=False),) if painted else ()
            title = f"reading {site}"
            call = (experiment, site, painted)
            self._add(Task(key, FEATURES, title, work.compute_features, call, needs))
        return key

    def _add(self, task: Task) -> str:
        self.all[task.key] = task
        return task.key


def _roles(cells: Iterable[Cell]) -> dict[str, tuple[bool, bool]]:
    """Return for each measurement whether test images, and whether other normals, are scored."""
    roles: dict[str, tuple[bool, bool]] = {}
    for cell in cells:
        for measured, role in _used(cell):
            scores, calibrates = roles.get(measured.key, (False, False))
            roles[measured.key] = (scores or role[0], calibrates or role[1])
    return roles


def _used(cell: Cell) -> Iterable[tuple[Measurement, tuple[bool, bool]]]:
    yield from ((measured, (True, False)) for measured in cell.scored)
    yield from ((measured, (False, True)) for measured in cell.calibrating)
