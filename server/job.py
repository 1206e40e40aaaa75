"""What the server is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bayfed.config import Experiment


@dataclass(frozen=True)
class Job:
    """What to run, and where.

    Attributes:
        experiment: Everything that defines the run.
        out: Its folder.
        resume: Whether it goes on from its last checkpoint.
        measures: Whether the sites are evaluated, or only trained on.
        start: A checkpoint whose parameters take the place of those of round 0.
    """

    experiment: Experiment
    out: Path
    resume: bool = False
    measures: bool = True
    start: Path | None = None

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
