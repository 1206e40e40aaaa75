"""What the server is asked to do."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from bayfed.config import Experiment

_HARMLESS = {
    "name": True,
    "store": {"directory"},
    "federation": {"backend", "rounds", "timeout", "workers", "gpu_share"},
    "evaluation": {"heatmaps"},
}
"""Settings that may change between a run and its resumption: they do not change a number."""


@dataclass(frozen=True)
class Job:
    """An experiment, the folder of its run, and whether the run goes on from a checkpoint."""

    experiment: Experiment
    out: Path
    resume: bool = False

    @property
    def history(self) -> Path:
        """The file with one line a round."""
        return self.out / "metrics.jsonl"

    @property
    def results(self) -> Path:
        """The table of results."""
        return self.out / "results.csv"

    @property
    def outcome(self) -> Path:
        """The file that says how the run ended."""
        return self.out / "outcome.json"


def experiment_hash(experiment: Experiment) -> str:
    """Return a hash of every setting that changes a result.

    >>> a = Experiment.model_validate({"federation": {"workers": 1}})
    >>> experiment_hash(a) == experiment_hash(Experiment())
    True
    """
    tree = experiment.model_dump(mode="json", exclude=_HARMLESS)  # type: ignore[arg-type]
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
