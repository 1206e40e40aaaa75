"""What the service refuses, each with the HTTP status that says so."""

from __future__ import annotations

from typing import ClassVar

from bayfed.errors import BayfedError


class RefusedError(BayfedError):
    """Base of every request that the service does not fulfil."""

    status: ClassVar[int] = 400


class NotAllowedError(RefusedError):
    """The token is missing or wrong."""

    status = 401


class ForeignError(RefusedError):
    """The request comes from a page of another origin, or names another host."""

    status = 403


class MissingError(RefusedError):
    """There is no such item."""

    status = 404


class TooLargeError(RefusedError):
    """A body, an image or their number is above its limit."""

    status = 413


class UnreadableError(RefusedError):
    """What was sent holds no image that can be scored."""

    status = 422


class FailedError(RefusedError):
    """Scoring failed for a reason that is no user's mistake."""

    status = 500


class BusyError(RefusedError):
    """The queue is full.

    Attributes:
        seconds: After which it is worth trying again.
    """

    status = 503

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class StorageError(RefusedError):
    """Images or their records cannot be written: the disk is full, or not writable."""

    status = 507
