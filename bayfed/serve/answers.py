"""Refusals as JSON: one line under ``error``, and when to try again."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import JSONResponse

from bayfed.errors import BayfedError
from bayfed.serve.refusals import BusyError, RefusedError


def refusal(error: BayfedError, rejected: Sequence[tuple[str, str]] = ()) -> JSONResponse:
    """Return the answer to a request that ``error`` has ended.

    Args:
        error: Another one than a ``RefusedError`` says that the images are at fault.
        rejected: Names of images, and what is wrong with each.

    >>> refusal(BusyError("full", 3)).headers["retry-after"]
    '3'
    """
    content: dict[str, object] = {"error": " ".join(str(error).split())}
    if rejected:
        content["rejected"] = [{"name": name, "error": why} for name, why in rejected]
    status = error.status if isinstance(error, RefusedError) else 422
    headers = {"Retry-After": str(error.seconds)} if isinstance(error, BusyError) else None
    return JSONResponse(content, status, headers)
