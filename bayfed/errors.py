"""Errors that a user can cause, each with a one-line message naming the file or the key."""

from __future__ import annotations


class BayfedError(Exception):
    """Base of every error that bayfed raises for a user's mistake or a failed run."""


class ConfigError(BayfedError):
    """A setting is unknown, has a wrong value, or contradicts another one."""


class DataError(BayfedError):
    """An image, a mask or a folder cannot be used as it is."""


class WeightsError(BayfedError):
    """A backbone is unknown, or its weights do not fit it."""


class ProtocolError(BayfedError):
    """Images are too few, or would be used on both sides of a split."""


class NumericalError(BayfedError):
    """A computation left the finite numbers or a matrix its definite cone."""


class CheckpointError(BayfedError):
    """A checkpoint or a results file is damaged or belongs to another experiment."""


class ProductError(BayfedError):
    """A product file is damaged or of another version, or a detector cannot say what is asked."""


class FederationError(BayfedError):
    """A round could not be completed: a bad reply, a failed client, a lost quorum."""


class DivergedError(FederationError):
    """The training has left the range of numbers, or the bound on its loss."""


def one_line(error: BaseException) -> str:
    """Return the message of ``error``, with its type if it is no mistake of a user.

    >>> one_line(ZeroDivisionError("no  way"))
    'ZeroDivisionError: no way'
    """
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, BayfedError) else f"{type(error).__name__}: {text}"
