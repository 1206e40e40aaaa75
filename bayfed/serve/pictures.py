"""Pictures of an item for the page, drawn when somebody looks."""

from __future__ import annotations

import threading
from functools import lru_cache

from bayfed.data import Pixels
from bayfed.errors import DataError
from bayfed.evaluation.colours import fitted
from bayfed.evaluation.heatmaps import SIDE, jpeg
from bayfed.evaluation.plots import colour_bar
from bayfed.inference.overlay import LARGEST, SMALLEST, overlay
from bayfed.serve.history import History
from bayfed.serve.originals import Originals
from bayfed.serve.records import Record
from bayfed.serve.refusals import MissingError

_KEPT = 128
"""Pictures kept in memory, of about 0.1 MB each."""
_AT_ONCE = 2
"""Pictures drawn at once: a large one takes memory, and the cores are there for scoring."""


class Pictures:
    """Draws items from their original and their recorded map: nothing else is stored."""

    def __init__(self, history: History, originals: Originals) -> None:
        self._history, self._originals = history, originals
        self._few = threading.Semaphore(_AT_ONCE)
        self.picture = lru_cache(_KEPT)(self._picture)
        """Return an item's picture as JPEG, small or as large as is useful."""
        self.overlay = lru_cache(_KEPT)(self._overlay)
        """Return the surprise over it, on the scale of the model that scored it."""

    def _picture(self, item: int, small: bool) -> bytes:
        seen = self._history.seen(item)
        with self._few:
            image = self._original(seen.record)
            longest = min(max(*image.shape[:2], SMALLEST), LARGEST)
            return jpeg(fitted(image, SIDE if small else longest))

    def _overlay(self, item: int, small: bool) -> bytes:
        record, inspection, scale = self._history.seen(item)
        if scale is None:
            return self.picture(item, small)
        with self._few:
            image = self._original(record)
            drawn = overlay(image, inspection, scale, legend=False)
            return jpeg(fitted(drawn, SIDE) if small else drawn)

    def _original(self, record: Record) -> Pixels:
        try:
            return self._originals.read(record.digest)
        except DataError:
            raise MissingError(f"item {record.id}: its picture is no longer kept") from None

    def legend(self, item: int) -> str:
        """Return the colour scale of an item's overlay as SVG; without a map it is empty."""
        scale = self._history.seen(item).scale
        return '<svg xmlns="http://www.w3.org/2000/svg"/>' if scale is None else colour_bar(scale)
