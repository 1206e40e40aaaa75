"""A watched folder: each file in it is scored once, as soon as it is complete."""

from __future__ import annotations

import logging
import os
import stat
import threading
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bayfed.data.files import MAX_BYTES, SUFFIXES, header_of
from bayfed.errors import BayfedError, DataError
from bayfed.inference.pictures import text_of
from bayfed.serve.database import Database
from bayfed.serve.history import History
from bayfed.serve.originals import digest_of
from bayfed.serve.records import Entry, Record, Source
from bayfed.serve.refusals import BusyError
from bayfed.serve.worker import Job, Worker

logger = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two looks at the folder; a file that did not change between them is whole."""
AT_ONCE = 4
"""Files submitted together: those who upload are to find room in the queue."""


class Stamp(NamedTuple):
    """What changes when a file does."""

    size: int
    modified: int


class Watch:
    """Looks at a folder over and over.

    A file is told by its path, size and time, so that it is not read at every look, and by
    its content, so that it is scored once under whatever name, and after a restart.
    """

    def __init__(self, folder: Path, worker: Worker, history: History, database: Database) -> None:
        self._folder = folder.resolve()
        self._worker, self._history, self._database = worker, history, database
        self._before: dict[str, Stamp] = {}
        with database.reading() as connection:
            rows = connection.execute("SELECT path, size, modified FROM watched").fetchall()
        self._done = {path: Stamp(size, modified) for path, size, modified in rows}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watching", daemon=True)

    def start(self) -> None:
        """Start looking, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; a file that is being scored is finished."""
        self._stop.set()
        self._thread.join()

    def look(self) -> int:
        """Look once and return how many files were recorded.

        Raises:
            BayfedError: the disk is full or the queue is; what is left comes at the next look.
        """
        now = dict(images_under(self._folder))
        whole = {path: stamp for path, stamp in now.items() if self._before.get(path) == stamp}
        self._before = now
        new = [path for path, stamp in whole.items() if self._done.get(text_of(path)) != stamp]
        count = 0
        for start in range(0, len(new), AT_ONCE):
            if self._stop.is_set():
                break
            count += self._take({path: now[path] for path in new[start : start + AT_ONCE]})
        return count

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            try:
                self.look()
            except BusyError:
                continue
            except BayfedError as error:
                logger.warning("%s: %s", self._folder, error)
            except Exception:
                logger.exception("%s: looking failed", self._folder)

    def _take(self, stamps: dict[str, Stamp]) -> int:
        """Submit a few files together, wait until they are recorded, and count them."""
        digests: set[str] = set()
        answers: dict[str, Future[Record] | None] = {}
        for path, stamp in stamps.items():
            with suppress(FileNotFoundError):  # moved away since the folder was listed
                answers[path] = self._submitted(path, stamp, digests)
        for path, answer in answers.items():
            if answer is not None:
                answer.result()
            self._remember(path, stamps[path])
        return sum(answer is not None for answer in answers.values())

    def _submitted(self, path: str, stamp: Stamp, digests: set[str]) -> Future[Record] | None:
        """Submit a file; None if its content has been recorded before."""
        error, shape, data = None, (0, 0), b""
        try:
            data = self._read(path, stamp)
            shape = header_of(data, Path(path)).size
        except DataError as refused:
            error = str(refused)
        # Content that was not read is as good as its place and time.
        digest = digest_of(data or repr((path, stamp)).encode())
        if digest in digests or self._history.knows(digest, Source.WATCH):
            return None
        digests.add(digest)
        if error is None:
            job = Job(path, data, Source.WATCH, shape, keep_errors=True)
            return self._worker.submit([job])[0]
        revision = self._worker.model.revision
        entry = Entry(path, Source.WATCH, digest, revision, 0.0, error=error)
        answer: Future[Record] = Future()
        answer.set_result(self._history.add([entry])[0])
        return answer

    def _read(self, path: str, stamp: Stamp) -> bytes:
        if stamp.size > MAX_BYTES:
            raise DataError(f"{path}: {stamp.size >> 20} MB, the limit is {MAX_BYTES >> 20} MB")
        try:
            return (self._folder / path).read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}") from error

    def _remember(self, path: str, stamp: Stamp) -> None:
        with self._database.writing() as connection:
            row = text_of(path), *stamp
            connection.execute("INSERT OR REPLACE INTO watched VALUES (?, ?, ?)", row)
        self._done[text_of(path)] = stamp


def images_under(folder: Path) -> list[tuple[str, Stamp]]:
    """Return path and stamp of each image file, oldest first.

    Links are left out, since they could lead out of the folder, and so is what is no file.
    """
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if path.suffix.lower() not in SUFFIXES or name.startswith("."):
                continue
            with suppress(FileNotFoundError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    stamp = Stamp(status.st_size, status.st_mtime_ns)
                    found.append((path.relative_to(folder).as_posix(), stamp))
    return sorted(found, key=lambda item: (item[1].modified, item[0]))
