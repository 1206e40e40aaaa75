"""Confirmed good parts become part of the model, and of the product file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bayfed.errors import BayfedError
from bayfed.evaluation.atomic import write_atomic
from bayfed.fingerprint import file_hash
from bayfed.serve.database import Database, storing
from bayfed.serve.history import add_event
from bayfed.serve.originals import Originals
from bayfed.serve.product import Load, Product
from bayfed.serve.records import now
from bayfed.serve.refusals import RefusedError
from bayfed.serve.worker import Model

_CHUNK = 16
"""Images in memory at once; the order and the number of updates do not change the posterior."""
_NEW = """
    SELECT digest FROM items WHERE verdict = 'good' AND learned IS NULL
    EXCEPT SELECT digest FROM items WHERE learned IS NOT NULL
    EXCEPT SELECT digest FROM unlearnable ORDER BY digest
"""


class NothingNewError(RefusedError):
    """No good part has been confirmed since the last update."""

    status = 409


def revision_of(path: Path) -> str:
    """Return what tells this content of a product file from any other."""
    return file_hash(path)[:12]


def previous_of(path: Path) -> Path:
    """Return where the file before the last update is kept.

    >>> previous_of(Path("nut.bayfed"))
    PosixPath('nut.bayfed.previous')
    """
    return path.with_name(f"{path.name}.previous")


class Learning:
    """Updates the product file with the good parts that people confirmed, each content once."""

    def __init__(self, path: Path, load: Load, database: Database, originals: Originals) -> None:
        self._path, self._load = path, load
        self._candidate = path.with_name(f".next-{path.name}")
        self._database, self._originals = database, originals

    def count(self) -> int:
        """Return the number of images that an update would add."""
        with self._database.reading() as connection:
            return len(connection.execute(_NEW).fetchall())

    def learn(self) -> Model:
        """Update a fresh copy of the model, replace the file, and return the copy.

        The file is replaced as a whole and the one before kept beside it. What is to be
        marked is written down first, so that :meth:`settle` can finish after a crash.

        An image that cannot be taken, because it is one of the supports or its file is gone,
        is left out for good, and the events say why.

        Raises:
            NothingNewError: there is nothing to add.
            BayfedError: the product file or the disk is at fault; nothing is changed.
        """
        with self._database.reading() as connection:
            digests = [row["digest"] for row in connection.execute(_NEW)]
        if not digests:
            raise NothingNewError("no good part was confirmed since the last update")
        product = self._load(self._path)
        left_out: dict[str, str] = {}
        for start in range(0, len(digests), _CHUNK):
            left_out |= self._update(product, digests[start : start + _CHUNK])
        self._leave_out(left_out)
        taken = [digest for digest in digests if digest not in left_out]
        if not taken:
            raise NothingNewError(next(iter(left_out.values())))

        try:
            with storing():
                product.save(self._candidate)
                revision = revision_of(self._candidate)
                self._intend(revision, taken)
                write_atomic(previous_of(self._path), self._path.read_bytes())
                write_atomic(self._path, self._candidate.read_bytes())
        finally:
            self._candidate.unlink(missing_ok=True)
        self.settle()
        return Model(product, revision)

    def settle(self) -> None:
        """Mark as learned what the product file holds; forget an update that it does not hold."""
        self._candidate.unlink(missing_ok=True)  # of an update that was killed
        revision = revision_of(self._path)
        with self._database.writing() as connection:
            for lesson in connection.execute("SELECT * FROM lessons").fetchall():
                if lesson["revision"] == revision:
                    digests = json.loads(lesson["digests"])
                    connection.executemany(
                        "UPDATE items SET learned = ? WHERE digest = ? AND verdict = 'good'",
                        [(lesson["at"], digest) for digest in digests],
                    )
                    text = f"{len(digests)} good parts added, revision {revision}"
                    add_event(connection, "update", None, text)
                connection.execute("DELETE FROM lessons WHERE id = ?", (lesson["id"],))

    def _update(self, product: Product, digests: Sequence[str]) -> dict[str, str]:
        """Update with images together, else one by one; return which cannot be taken, and why."""
        try:
            product.update([self._originals.read(digest) for digest in digests])
        except BayfedError as error:
            if len(digests) == 1:
                return {digests[0]: str(error)}
        else:
            return {}
        return {d: why for digest in digests for d, why in self._update(product, [digest]).items()}

    def _leave_out(self, reasons: Mapping[str, str]) -> None:
        with self._database.writing() as connection:
            for digest, reason in reasons.items():
                connection.execute("INSERT INTO unlearnable VALUES (?, ?)", (digest, reason))
                add_event(connection, "update", None, f"left out: {reason}")

    def _intend(self, revision: str, digests: list[str]) -> None:
        with self._database.writing() as connection:
            connection.execute("DELETE FROM lessons")
            connection.execute(
                "INSERT INTO lessons (at, revision, digests) VALUES (?, ?, ?)",
                (now(), revision, json.dumps(digests)),
            )
