"""Pictures and maps go after some days; what was decided, and by whom, stays."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from bayfed.errors import BayfedError
from bayfed.serve.database import Database
from bayfed.serve.originals import Originals
from bayfed.serve.records import text_of_time
from bayfed.serve.worker import Worker

logger = logging.getLogger(__name__)

INTERVAL = 3600.0
"""Seconds between two looks."""
_AT_ONCE = 500
"""Maps removed in one transaction: those who score are not to wait."""
_NEEDED = """(
    received >= ?
    OR decision IS 'review' AND verdict IS NULL
    OR verdict IS 'good' AND learned IS NULL
)"""
"""A part that waits for a person, or to join the model, keeps its picture however old it is."""
_KEPT = f"SELECT 1 FROM items WHERE digest = ? AND {_NEEDED} LIMIT 1"
_OLD = f"""
    DELETE FROM maps WHERE item IN (
        SELECT item FROM maps JOIN items ON id = item WHERE NOT {_NEEDED} LIMIT {_AT_ONCE}
    )
"""


class Retention:
    """Looks through the stored pictures over and over."""

    def __init__(
        self, days: float, worker: Worker, database: Database, originals: Originals
    ) -> None:
        self._age = timedelta(days=days)
        self._worker, self._database, self._originals = worker, database, originals
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        """Start looking, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._stop.set()
        self._thread.join()

    def clean(self) -> int:
        """Remove what is too old, and return the number of pictures.

        Raises:
            BayfedError: the disk cannot be written to, or the service is stopping.
        """
        before = datetime.now(UTC) - self._age
        count = 0
        for folder in self._originals.folders():
            if self._stop.is_set():
                return count
            # Between two batches: a picture that comes again is not removed under its record.
            count += self._worker.alone(partial(self._remove, folder, before)).result()
        while not self._stop.is_set():
            with self._database.writing() as connection:
                removed = connection.execute(_OLD, (text_of_time(before),)).rowcount
            if removed < _AT_ONCE:
                break
        return count

    def _remove(self, folder: Path, before: datetime) -> int:
        count = 0
        with self._database.reading() as connection:
            for path in self._originals.older(folder, before.timestamp()):
                wanted = path.name, text_of_time(before)
                if connection.execute(_KEPT, wanted).fetchone() is None:
                    path.unlink(missing_ok=True)
                    count += 1
        return count

    def _run(self) -> None:
        while True:
            try:
                self.clean()
            except BayfedError as error:
                logger.warning("removing old pictures: %s", error)
            except Exception:
                logger.exception("removing old pictures failed")
            if self._stop.wait(INTERVAL):
                return
