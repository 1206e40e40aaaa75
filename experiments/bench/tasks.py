"""From cells to tasks: features, then trainings, then measurements, each done once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bayfed.config import Experiment
from experiments.bench import work
from experiments.bench.arms import Training, is_unseen, names_of
from experiments.bench.plan import Cell, Measurement

FEATURES, TRAINING, MEASURING = "features", "training", "measuring"


@dataclass(frozen=True, eq=False)
class Task:
    """A call that a worker makes once the tasks that it needs are done.

    Attributes:
        key: Tells it from every other task.
        kind: Of work, for the progress bars.
        title: In words, for messages.
        function: A function of :mod:`experiments.bench.work`.
        arguments: Of the call.
        needs: Keys of other tasks.
        size: Steps on the progress bar.
        history: The file that gets a line for each step but the first, if there is one.
    """

    key: str
    kind: str
    title: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    needs: tuple[str, ...] = ()
    size: int = 1
    history: Path | None = None


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
