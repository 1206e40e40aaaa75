"""What a worker process of a study does: one run, or the first rounds of one.

The training stack is imported where it is used, so that a process that only plans is small.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bayfed.config import Experiment
from bayfed.errors import DivergedError
from experiments.parallel.task import use_one_thread
from server import history, outcome
from server.job import Job

PROBED = 2
"""Rounds of a probe: the first opens the factories, the second is like all that follow."""


@dataclass(frozen=True)
class Cost:
    """What a run costs.

    Attributes:
        start: Seconds before the first round, without what is measured there.
        round: Seconds of a round.
        measuring: Seconds of an evaluation with its diagnosis.
        peak: Bytes of the process that runs it.
    """

    start: float
    round: float
    measuring: float
    peak: int

    def scaled(self, to: Cost, since: Cost) -> Cost:
        """Return this cost times what ``to`` costs for one of ``since``."""

        def times(own: float, to: float, since: float) -> float:
            return own * to / since if since > 0 else max(own, to)

        return Cost(
            times(self.start, to.start, since.start),
            times(self.round, to.round, since.round),
            times(self.measuring, to.measuring, since.measuring),
            max(self.peak, to.peak),
        )

    def seconds(self, experiment: Experiment) -> float:
        """Return the seconds of a whole run."""
        rounds = experiment.federation.rounds
        every, diagnosed = experiment.evaluation.every, experiment.federation.diagnostics.every
        # The two are not told apart here: the more frequent counts for both.
        often = min((n for n in (every, diagnosed) if n), default=rounds or 1)
        measured = 1 + -(-rounds // often)
        return self.start + rounds * self.round + measured * self.measuring


def play(experiment: Experiment, out: Path) -> None:
    """Run an experiment from its beginning; one that diverges has ended too.

    A run that was cut short begins anew, so that its times are those of one process.

    Raises:
        BayfedError: it failed.
    """
    from clients.session import close_all
    from experiments.run import train_in_process

    use_one_thread()
    shutil.rmtree(out, ignore_errors=True)
    job = Job(experiment, out)
    try:
        train_in_process(job)
    except DivergedError:
        pass
    finally:
        close_all()
        for path in sorted((out / "checkpoints").glob("*.safetensors"))[:-1]:
            path.unlink()


def probe(experiment: Experiment) -> Cost:
    """Return what a run costs, from its first rounds.

    Raises:
        BayfedError: they failed.
    """
    federation = experiment.federation.model_copy(update={"rounds": PROBED})
    short = experiment.model_copy(update={"federation": federation})
    with tempfile.TemporaryDirectory(prefix="bayfed-probe-") as folder:
        job = Job(short, Path(folder) / "run")
        play(short, job.out)
        lines = history.read(job.history)
        status = outcome.read(job.outcome).get("status")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if status != outcome.COMPLETED or len(lines) <= PROBED:
        return Cost(0.0, 0.0, 0.0, peak)
    first, round_, last = lines[0]["seconds"], lines[1]["training_seconds"], lines[PROBED]
    trained = last["training_seconds"]
    measuring = max(0.0, last["seconds"] - trained)
    return Cost(max(0.0, first - measuring), min(round_, trained), measuring, peak)
