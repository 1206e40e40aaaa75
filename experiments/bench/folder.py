"""The folder of a bench: its settings, its trainings and its table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bayfed.config import FULL, Experiment
from bayfed.errors import CheckpointError, ConfigError
from bayfed.evaluation.atomic import write_atomic
from bayfed.evaluation.table import ResultRow, read_rows
from experiments.bench.plan import CONTEXT

_FREE: Any = {
    "name": True,
    "seed": True,
    "protocol": True,
    "store": {"directory"},
    "federation": {"backend", "timeout", "workers", "gpu_share"},
    "evaluation": {"every", "heatmaps", "shots", "noise"},
}
"""Settings that are columns of the table, or change no number."""


@dataclass(frozen=True)
class Folder:
    """Where a bench writes."""

    path: Path

    @property
    def settings(self) -> Path:
        """The settings of every system that has been measured here."""
        return self.path / "bench.yaml"

    @property
    def results(self) -> Path:
        """The table of results."""
        return self.path / "results.csv"

    @property
    def trainings(self) -> Path:
        """A folder for each training."""
        return self.path / "trainings"

    def check(self, resume: bool) -> None:
        """Check that the folder is new, or holds a bench if it is to be resumed.

        Raises:
            ConfigError: it is not so.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path}: not a folder")
        if resume and not self.settings.exists():
            raise ConfigError(f"{self.path}: no bench to resume")
        if self.settings.exists() and not resume:
            raise ConfigError(f"{self.path}: holds a bench already; --resume it or choose another")
        if self.results.exists() and not self.settings.exists():
            raise ConfigError(
                f"{self.path}: holds results of something else; choose another folder"
            )

    def claim(self, systems: Mapping[str, Experiment], shared: Mapping[str, Any]) -> None:
        """Write down the settings of ``systems``; those that are known must not have changed.

        Raises:
            CheckpointError: a system was measured here with other settings.
        """
        known = self._known()
        new = {name: stated(experiment) | dict(shared) for name, experiment in systems.items()}
        for name, settings in new.items():
            key = _difference(known.get(name, settings), settings)
            if key is not None:
                raise CheckpointError(
                    f"{self.settings}: {name} was measured with another {key}; "
                    "choose another folder (--out)"
                )
        text = yaml.safe_dump(known | new, sort_keys=False)
        write_atomic(self.settings, text.encode())

    def _known(self) -> dict[str, Any]:
        if not self.settings.exists():
            return {}
        try:
            tree = yaml.safe_load(self.settings.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, ValueError) as error:
            raise CheckpointError(f"{self.settings}: cannot be read") from error
        if not isinstance(tree, dict):
            raise CheckpointError(f"{self.settings}: not the settings of a bench")
        return tree

    def rows(self) -> list[ResultRow]:
        """Return what has been measured.

        Raises:
            CheckpointError: the table is damaged or of another schema.
        """
        return read_rows(self.results) if self.results.exists() else []


def stated(experiment: Experiment) -> dict[str, Any]:
    """Return the settings of a system that must not change between two sittings of a bench."""
    return experiment.model_dump(mode="json", exclude=_FREE)


def keys_of(rows: list[ResultRow]) -> set[tuple[Any, ...]]:
    """Return what identifies each row, as :attr:`experiments.bench.plan.Cell.keys` has it."""

    def asked(row: ResultRow, name: str) -> Any:
        return FULL if name == "shots" and row.full_support else getattr(row, name)

    return {(*(asked(row, name) for name in CONTEXT), row.site, row.draw) for row in rows}


def _difference(old: Any, new: Any, key: str = "") -> str | None:
    """Return the first key under which two trees of settings differ."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return None if old == new else key.removeprefix(".") or "setting"
    for name in dict.fromkeys([*old, *new]):
        found = _difference(old.get(name), new.get(name), f"{key}.{name}")
        if found is not None:
            return found
    return None
