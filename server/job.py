"""What the server is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bayfed.config import Experiment


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
    def report(self) -> Path:
        """The page that shows what came out."""
        return self.out / "report.html"

    @property
    def outcome(self) -> Path:
        """The file that says how the run ended."""
        return self.out / "outcome.json"
