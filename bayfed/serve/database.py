"""The SQLite file behind the service: opened durably, written in whole transactions."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bayfed.errors import DataError
from bayfed.serve.refusals import StorageError
from bayfed.serve.tables import SCHEMA, VERSION

_DISK = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
)


@contextmanager
def storing() -> Iterator[None]:
    """Turn what a full or broken disk raises into a ``StorageError``."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot store: {error.strerror or error}") from error
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in _DISK:
            raise
        raise StorageError(f"cannot store: {error}") from error


class Database:
    """One connection for all threads, one thread at a time.

    The journal is written ahead and synchronised with each transaction: what ``writing`` has
    left is still there when the process is killed or the power fails.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection = _open(path)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection, for queries that are answered at once."""
        with self._lock:
            yield self._connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection inside a transaction: all of it is kept, or nothing.

        Raises:
            StorageError: the disk is full or cannot be written to.
        """
        with self._lock, storing():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def browsing(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection of its own, which holds nobody up however long it is read."""
        connection = _connect(self.path)
        try:
            connection.execute("PRAGMA query_only=ON")
            yield connection
        finally:
            connection.close()

    def close(self) -> None:
        """Close the file; what was written stays."""
        with self._lock:
            self._connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    return connection


def _open(path: Path) -> sqlite3.Connection:
    try:
        connection = _connect(path)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        found = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if found > VERSION:
            raise DataError(f"{path}: history of schema {found}, this version reads {VERSION}")
        if found == 0:
            connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")
    except sqlite3.DatabaseError as error:
        raise DataError(f"{path}: no history that can be opened ({error})") from error
    return connection
