"""Runs of a benchmark that are kept: one that is done is not done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.resolve import resolve
from experiments.run import train_in_process
from server.job import Job


def kept_run(
    experiment: str,
    words: Sequence[str],
    folder: Path,
    play: Callable[[Job], object] = train_in_process,
) -> Job:
    """Return the job of ``experiment`` in ``folder``, played there unless it was before.

    Raises:
        BayfedError: the run failed, or what is there has other settings.
    """
    mark = folder / "done"
    job = resolve(experiment, words, folder, resume=mark.exists())
    if not job.resume:
        play(job)
        mark.touch()
    return job
