"""The one thread that scores: whoever sends images waits in one bounded queue."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bayfed.data import Pixels
from bayfed.data.files import MAX_PIXELS, pixels_of
from bayfed.errors import BayfedError, DataError, one_line
from bayfed.inference.inspection import Inspection
from bayfed.serve.history import History
from bayfed.serve.originals import Originals, digest_of
from bayfed.serve.product import Product
from bayfed.serve.records import Entry, Record, Source
from bayfed.serve.refusals import BusyError, FailedError

T = TypeVar("T")
logger = logging.getLogger(__name__)

CAPACITY = 128
"""Images that may wait: two for each of 64 clients."""
BATCH = 8
"""Images scored at once, where so many are waiting."""
_FIRST_GUESS = 0.1
"""Seconds an image is taken to need before any was scored."""


@dataclass(frozen=True)
class Model:
    """A product as it is in use, and the revision of its file."""

    product: Product
    revision: str


@dataclass(frozen=True, eq=False)
class Job:
    """An image file that is waiting, and who waits for it.

    Attributes:
        shape: Height and width that its header announces.
        keep_errors: Whether an unreadable image is recorded, or refused and forgotten.
    """

    name: str
    data: bytes
    source: Source
    shape: tuple[int, int]
    keep_errors: bool = False
    answer: Future[Record] = field(default_factory=Future)


class Worker:
    """Scores what is submitted, in batches, and answers when the record is on the disk.

    A batch takes what waits and never waits for more: one client has the latency of one
    image, and 64 clients share the cost of a batch instead of fighting over the cores.
    """

    def __init__(
        self, model: Model, history: History, originals: Originals, capacity: int = CAPACITY
    ) -> None:
        self.model = model
        self.capacity = capacity
        self._history, self._originals = history, originals
        self._waiting: deque[Job] = deque()
        self._tasks: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._seconds = _FIRST_GUESS
        self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)

    @property
    def depth(self) -> int:
        """Number of images waiting."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Answer everything that waits, then end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    def submit(self, jobs: Sequence[Job]) -> list[Future[Record]]:
        """Let ``jobs`` wait, all of them or none.

        Raises:
            BusyError: there is no room for them.
        """
        with self._changed:
            self.check_room(len(jobs))
            self._waiting.extend(jobs)
            self._changed.notify_all()
        return [job.answer for job in jobs]

    def check_room(self, number: int) -> None:
        """Refuse if ``number`` further images could not wait.

        Raises:
            BusyError: so it is.
        """
        if self._stopping:
            raise BusyError("the service is stopping", 5)
        if len(self._waiting) + number > self.capacity:
            seconds = math.ceil(len(self._waiting) * self._seconds)
            raise BusyError(f"{len(self._waiting)} images are waiting already", max(1, seconds))

    def alone(self, task: Callable[[], T]) -> Future[T]:
        """Run ``task`` in the thread between two batches, while nothing is scored."""
        answer: Future[T] = Future()

        def run() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(task())
            except Exception as error:
                answer.set_exception(error)

        with self._changed:
            if self._stopping:
                raise BusyError("the service is stopping", 5)
            self._tasks.append(run)
            self._changed.notify_all()
        return answer

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._tasks or self._stopping)
                task = self._tasks.popleft() if self._tasks else None
                jobs = [] if task else self._batch()
            if task:
                task()
            elif jobs:
                self._answer(jobs)
            elif self._stopping and not self._waiting:
                return

    def _batch(self) -> list[Job]:
        """Take the next jobs, as many as fit into memory side by side."""
        jobs: list[Job] = []
        pixels = 0
        while self._waiting and len(jobs) < BATCH:
            pixels += math.prod(self._waiting[0].shape)
            if jobs and pixels > MAX_PIXELS:
                break
            job = self._waiting.popleft()
            if job.answer.set_running_or_notify_cancel():  # nobody waits for it any more
                jobs.append(job)
        return jobs

    def _answer(self, jobs: Sequence[Job]) -> None:
        answers: dict[Job, Record | BayfedError]
        try:
            answers = self._recorded(jobs)
        except Exception as error:  # whatever it was, the next batch may do better
            if not isinstance(error, BayfedError):
                logger.exception("scoring failed")
            for job in jobs:
                job.answer.set_exception(error)
            return
        for job, answer in answers.items():
            if isinstance(answer, Record):
                job.answer.set_result(answer)
            else:
                job.answer.set_exception(answer)

    def _recorded(self, jobs: Sequence[Job]) -> dict[Job, Record | BayfedError]:
        """Score ``jobs``; store the images, then their records, and only then return."""
        started = time.perf_counter()
        results = dict(zip(jobs, scored(self.model.product, jobs), strict=True))
        elapsed = (time.perf_counter() - started) / len(jobs)
        self._seconds += 0.2 * (elapsed - self._seconds)

        answers: dict[Job, Record | BayfedError] = {}
        entries: dict[Job, Entry] = {}
        for job, result in results.items():
            if isinstance(result, BayfedError):
                answers[job] = result
            if isinstance(result, Inspection) or job.keep_errors:
                entries[job] = self._entry(job, result, 1000 * elapsed)
        for job, entry in entries.items():
            if entry.inspection is not None:
                self._originals.keep(job.data, entry.digest)
        answers.update(zip(entries, self._history.add(list(entries.values())), strict=True))
        return answers

    def _entry(self, job: Job, result: Inspection | BayfedError, ms: float) -> Entry:
        product, digest = self.model.product, digest_of(job.data)
        if isinstance(result, Inspection):
            return Entry(
                job.name, job.source, digest, self.model.revision, ms,
                product.threshold, result, product.scale,
            )  # fmt: skip
        return Entry(job.name, job.source, digest, self.model.revision, ms, error=str(result))


def scored(product: Product, jobs: Sequence[Job]) -> list[Inspection | BayfedError]:
    """Return for each job what the product says of its image, or why it says nothing."""
    decoded = [_decoded(job) for job in jobs]
    images = [image for image in decoded if not isinstance(image, BayfedError)]
    found = iter(_inspected(product, images))
    return [image if isinstance(image, BayfedError) else next(found) for image in decoded]


def _decoded(job: Job) -> Pixels | DataError:
    try:
        return pixels_of(job.data, Path(job.name))
    except DataError as error:
        return error


def _inspected(product: Product, images: Sequence[Pixels]) -> list[Inspection | BayfedError]:
    """Score together; where that fails, one by one, so that no image fails for another."""
    if not images:
        return []
    try:
        return list(product.score(images))
    except Exception as error:
        if len(images) == 1:
            return [_failure(error)]
    return [result for image in images for result in _inspected(product, [image])]


def _failure(error: Exception) -> BayfedError:
    if isinstance(error, BayfedError):
        return error
    logger.error("scoring failed", exc_info=error)
    return FailedError(one_line(error))
