"""The environment of `make rivals`, called from bayfed's own."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from bayfed.config import Experiment, PatchCore
from bayfed.errors import BayfedError, ConfigError
from bayfed.features.weights import inspect_weights
from experiments.rivals.job import Job, Network, Site

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-rivals" / "bin" / "python"
ABSENT = "anomalib is not installed here: run make rivals"
_SCRIPT = ("-W", "ignore", "-m", "experiments.rivals.anomalib_patchcore")


def is_there() -> bool:
    """Tell whether the environment has been made."""
    return PYTHON.exists()


def job_of(experiment: Experiment, sites: list[Site], threads: int) -> Job:
    """Return the job of PatchCore with the settings of ``experiment``.

    Raises:
        ConfigError: the experiment is not PatchCore, or has a backbone that anomalib has not.
        WeightsError: the weights cannot be read.
    """
    backbone, method = experiment.backbone, experiment.method
    if not isinstance(method, PatchCore):
        raise ConfigError(f"method.name: {method.name} has no counterpart in anomalib")
    if backbone.weights is None:
        raise ConfigError("backbone.weights: two libraries need one file of weights")
    if backbone.smoothing != 3:
        raise ConfigError("backbone.smoothing: anomalib's is 3")
    file = inspect_weights(backbone.weights, backbone.sha256)
    network = Network(
        backbone.name, str(file.path), dict(file.create), list(backbone.stages),
        backbone.image_size, list(file.mean), list(file.std),
    )  # fmt: skip
    return Job(network, method.coreset, method.neighbours or 1, experiment.seed, threads, sites)


def scores_of(job: Job) -> dict[str, Any]:
    """Return what anomalib's PatchCore says of ``job``.

    Raises:
        BayfedError: the environment is not there, or its program failed.
    """
    if not is_there():
        raise ConfigError(ABSENT)
    return answer_of([str(PYTHON), *_SCRIPT], job, "anomalib")


class Question(Protocol):
    """What a program is asked."""

    def write(self, path: Path) -> None:
        """Write it as a file."""


def answer_of(
    command: Sequence[str], question: Question, name: str, environment: Mapping[str, str] = {}
) -> dict[str, Any]:
    """Return what a program answers, which is called with the files of question and answer.

    Args:
        command: The program.
        question: What it is asked.
        name: Of the program, for an error.
        environment: Variables that it gets besides.

    Raises:
        BayfedError: it failed.
    """
    with tempfile.TemporaryDirectory(prefix="bayfed-rivals-") as folder:
        asked, answer = Path(folder) / "question.json", Path(folder) / "answer.json"
        question.write(asked)
        done = subprocess.run(
            [*command, str(asked), str(answer)],
            cwd=ROOT,
            env={**_environment(), **environment},
            capture_output=True,
        )
        if done.returncode or not answer.exists():
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            raise BayfedError(f"{name}: {lines[-1] if lines else 'failed without a word'}")
        found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return found


class Served:
    """A fitted model in another process, which scores an image when asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.facts = self._answer()

    def __call__(self) -> float:
        """Score the image once."""
        assert self._process.stdin is not None  # noqa: S101 (a pipe was asked for)
        self._process.stdin.write("score\n")
        self._process.stdin.flush()
        return float(self._answer()["score"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101
        line = self._process.stdout.readline()
        if not line:
            raise BayfedError("anomalib: its process ended without an answer")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def serve(job: Job) -> Iterator[Served]:
    """Fit the first support of ``job`` in another process, and end that process at the end.

    Raises:
        BayfedError: the process ended before it answered.
    """
    with tempfile.TemporaryDirectory(prefix="bayfed-rivals-") as folder:
        asked = Path(folder) / "job.json"
        job.write(asked)
        process = subprocess.Popen(
            [str(PYTHON), *_SCRIPT, str(asked), "--serve"], cwd=ROOT, env=_environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            yield Served(process)
        finally:
            process.kill()
            process.communicate()


def _environment() -> dict[str, str]:
    """Return this process's environment without what belongs to its own interpreter."""
    own = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    return {key: value for key, value in os.environ.items() if key not in own}
