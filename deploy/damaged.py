"""Lets a node try a call again whose bytes were damaged on the way.

TLS notices a byte that was turned over and ends the connection. Flower takes every error of TLS for
a wrong certificate, does not try again, and lets go of the reply that it was sending: the server
would wait for it until the end of the round.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

import httpx

_RECORD = ("RECORD", "DECRYPT")
"""In OpenSSL's name of what is wrong with a piece of data, at either end of the connection."""


def try_again() -> None:
    """Let this process's calls over damaged connections fail like those over broken ones."""
    send = httpx.Client.send

    def sent(client: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        try:
            return send(client, request, **options)
        except httpx.TransportError as error:
            if _is_damage(error):
                raise httpx.ReadError("damaged on the way", request=request) from error
            raise

    httpx.Client.send = sent  # type: ignore[assignment,method-assign]


def _is_damage(error: BaseException) -> bool:
    reasons = [cause.reason or "" for cause in _causes(error) if isinstance(cause, ssl.SSLError)]
    return any(word in reason for reason in reasons for word in _RECORD)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
