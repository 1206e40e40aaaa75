"""What the server is asked to do."""

from __future__ import annotations

import uuid
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bayfed.config import Experiment
from bayfed.errors import FederationError
from bayfed.evaluation.atomic import write_atomic
from bayfed.folders import alone_in, make_folder
from server.disk import written
from server.plants import Plants

FILES = frozenset(
    {
        "checkpoints",
        "config.yaml",
        "flower.log",
        "memories",
        "metrics.jsonl",
        "outcome.json",
        "phase.txt",
        "report.html",
        "results.csv",
        "run.txt",
        "server.log",
        "superexec.log",
        "tensorboard",
    }
)
"""What a run writes into its folder."""


@dataclass(frozen=True)
class Job:
    """What to run, and where.

    Attributes:
        experiment: Everything that defines the run.
        out: Its folder.
        resume: Whether it goes on from its last checkpoint.
        measures: Whether the sites are evaluated, or only trained on.
        start: A checkpoint whose parameters take the place of those of round 0.
        plants: Who may take part on a network; ``None`` = the nodes say who they are.
    """

    experiment: Experiment
    out: Path
    resume: bool = False
    measures: bool = True
    start: Path | None = None
    plants: Plants | None = None

    def make_folder(self) -> None:
        """Create the folder of the run.

        Raises:
            ConfigError: it cannot be created.
        """
        make_folder(self.out)

    def alone(self) -> AbstractContextManager[None]:
        """Hold the folder, so that no second process writes to the run.

        Raises:
            FederationError: another one does.
        """
        return alone_in(self.out)

    def strangers(self) -> list[str]:
        """Return the names in the folder that no run writes, but those that begin with a dot."""
        if not self.out.is_dir():
            return []
        names = {path.name for path in self.out.iterdir() if not path.name.startswith(".")}
        return sorted(names - FILES)

    def called(self, new: bool) -> str:
        """Return the name by which real nodes know the run, also after it was resumed.

        Args:
            new: Whether it begins, so that it is another one than all before.

        Raises:
            FederationError: it cannot be written down.
        """
        path = self.out / "run.txt"
        if new or not path.exists():
            with written(path, kind=FederationError):
                write_atomic(path, uuid.uuid4().hex.encode())
        return path.read_text(encoding="utf-8").strip()

    @property
    def history(self) -> Path:
        """The file with one line a round."""
        return self.out / "metrics.jsonl"

    @property
    def memories(self) -> Path:
        """The folder of what the clients of a simulation remember."""
        return self.out / "memories"

    @property
    def phase(self) -> Path:
        """The file that says what a running server waits for."""
        return self.out / "phase.txt"

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
