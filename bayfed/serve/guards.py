"""Who may ask: the right host, no page of another origin, and a token where one is set."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bayfed.serve.answers import refusal
from bayfed.serve.refusals import ForeignError, NotAllowedError, RefusedError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN = ("/", "/healthz", "/login", "/static/")
"""Paths that need no token: the page shows a form instead, and holds nothing itself."""
SHORTEST_TOKEN = 16

_SAFE = ("GET", "HEAD", "OPTIONS")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Without any referrer a browser would send the form for the token with "Origin: null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Token:
    """A secret that a client sends as a bearer, or a page keeps as a cookie made of it.

    >>> Token("0123456789abcdef").is_bearer("Bearer 0123456789abcdef")
    True
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        # The cookie does not give the token away; its name differs between services of one host.
        self.cookie = hmac.new(self._secret, b"bayfed page", hashlib.sha256).hexdigest()
        self.cookie_name = "bayfed_" + hashlib.sha256(self.cookie.encode()).hexdigest()[:8]

    def matches(self, given: str) -> bool:
        """Return whether ``given`` is the secret, in a time that does not depend on it."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._secret)

    def is_bearer(self, authorization: str) -> bool:
        """Return whether a header carries the secret."""
        scheme, _, given = authorization.partition(" ")
        return scheme.lower() == "bearer" and self.matches(given.strip())

    def admits(self, connection: HTTPConnection) -> bool:
        """Return whether a request may see anything."""
        cookie = connection.cookies.get(self.cookie_name, "")
        return self.is_bearer(connection.headers.get("authorization", "")) or hmac.compare_digest(
            cookie.encode("utf-8", "replace"), self.cookie.encode()
        )


class Guard:
    """Refuses requests before anything reads them, and adds the headers of a careful page.

    Args:
        app: What is guarded.
        token: None where only this machine can ask.
        hosts: Names by which the service may be asked for when there is no token. A page of
            elsewhere could have its own name point here and would be of the same origin then.
    """

    def __init__(self, app: ASGIApp, token: Token | None, hosts: Collection[str]) -> None:
        self._app, self._token, self._hosts = app, token, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            self._check(HTTPConnection(scope))
        except RefusedError as error:
            await refusal(error)(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)

    def _check(self, connection: HTTPConnection) -> None:
        host = connection.headers.get("host", "")
        if self._token is None and _hostname(host) not in self._hosts:
            raise ForeignError("this service is not known by that name")
        if connection.scope["method"] not in _SAFE:
            check_origin(connection.headers)
        path = connection.scope["path"]
        is_open = path in OPEN or path.startswith(OPEN[-1])
        if self._token is not None and not is_open and not self._token.admits(connection):
            raise NotAllowedError("a token is needed: Authorization: Bearer ...")


def check_origin(headers: Headers) -> None:
    """Refuse what a page of another origin has a browser send.

    Raises:
        ForeignError: so it is.
    """
    origin = headers.get("origin")
    if origin is None:  # no browser, or an old one
        foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
    else:
        foreign = urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    if foreign:
        raise ForeignError("requests from pages of another origin are refused")


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
