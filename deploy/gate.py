"""The only way in from outside: what a node needs of the SuperLink, and nothing else.

All interfaces of a SuperLink listen on one port, and whoever reaches its control interface can
register nodes and submit runs. So the SuperLink listens on loopback, and this small reverse proxy
in front of it lets through the paths of the Fleet API that a registered node uses. Nodes sign their
requests themselves; the signature goes through as it is, and the SuperLink judges it.

A node without a message asks again after three seconds only. So a question to which the SuperLink
has no message yet is kept open here, and asked anew until there is one.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import ssl
import time
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from deploy.certificates import trusting
from deploy.layout import FederationFolder

FLEET = "/v1/fleet/"
CALLS = frozenset(
    {
        "activate-node",
        "confirm-message-received",
        "deactivate-node",
        "get-fab",
        "get-run",
        "pull-messages",
        "pull-object",
        "push-messages",
        "push-object",
        "send-node-heartbeat",
    }
)
"""What a registered node calls; it neither registers nor removes itself."""
PULL = "pull-messages"
HEALTH = "/health"
HOLD = 15.0
"""Seconds for which a question is kept open; a node gives it up after 30."""
LOOK, SPREAD = 0.25, 0.01
"""Seconds between two looks for a message, and by how much each open question lengthens them."""
_HOP = frozenset({"connection", "host", "keep-alive", "te", "trailer", "upgrade"})
"""Headers that concern one connection only (RFC 9110, section 7.6.1)."""
_LENGTHS = frozenset({"content-length", "transfer-encoding", "content-encoding"})
_REMEMBERED = 1000
_TIMEOUT = 60.0
log = logging.getLogger("bayfed.gate")


class Gate:
    """Passes requests on to a SuperLink.

    Attributes:
        client: Reaches the SuperLink.
        largest: Bytes of the largest request that is let through.
    """

    def __init__(self, client: httpx.AsyncClient, largest: int) -> None:
        self.client, self.largest = client, largest
        self._told: set[tuple[str, str]] = set()
        self._open = 0

    async def pass_on(self, request: Request) -> Response:
        """Return the SuperLink's answer to a call of a node."""
        call = request.path_params["call"]
        if call not in CALLS:
            return await self.refuse(request)
        try:
            body = await self._body(request)
        except TooLargeError:
            self._tell(request, f"a request above {self.largest} bytes")
            return PlainTextResponse("the request is too large", 413)
        headers = [(k, v) for k, v in request.headers.items() if k not in _HOP | _LENGTHS]
        try:
            answer = await self.client.post(FLEET + call, content=body, headers=headers)
            if call == PULL and _is_empty(answer):
                answer = await self._hold(request, body, headers)
        except httpx.TransportError:
            return PlainTextResponse("the SuperLink is away", 503)
        kept = {k: v for k, v in answer.headers.items() if k not in _HOP | _LENGTHS}
        return Response(answer.content, answer.status_code, kept)

    async def _hold(
        self, request: Request, body: bytes, headers: list[tuple[str, str]]
    ) -> httpx.Response:
        """Return the SuperLink's answer as soon as it holds a message.

        Nothing is taken for a node that has hung up.
        """
        until = time.monotonic() + HOLD
        self._open += 1
        try:
            while True:
                await asyncio.sleep(LOOK + SPREAD * self._open)
                if await request.is_disconnected():
                    return httpx.Response(200)
                answer = await self.client.post(FLEET + PULL, content=body, headers=headers)
                if not _is_empty(answer) or time.monotonic() > until:
                    return answer
        finally:
            self._open -= 1

    async def refuse(self, request: Request) -> Response:
        """Answer as if there were nothing."""
        self._tell(request, f"{request.method} {request.url.path[:80]!r}")
        return PlainTextResponse("there is nothing here", 404)

    async def healthy(self, _: Request) -> Response:
        """Say whether the SuperLink answers; the header ``Date`` is the server's clock."""
        try:
            answer = await self.client.get(HEALTH, timeout=5.0)
        except httpx.TransportError:
            return PlainTextResponse("the SuperLink is away", 503)
        return PlainTextResponse("", answer.status_code)

    async def _body(self, request: Request) -> bytes:
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self.largest:
                raise TooLargeError
            parts.append(part)
        return b"".join(parts)

    def _tell(self, request: Request, what: str) -> None:
        # Once for each sender, so that nobody can fill the disk.
        sender = request.client.host if request.client else "somebody"
        if (sender, what) not in self._told and len(self._told) < _REMEMBERED:
            self._told.add((sender, what))
            log.warning("refused: %s from %s", what, sender)


def _is_empty(answer: httpx.Response) -> bool:
    """Say whether an answer is a message without fields, which protobuf writes as no bytes."""
    return answer.is_success and not answer.content


class TooLargeError(Exception):
    """A request is larger than the gate lets through."""


def application(gate: Gate) -> Starlette:
    """Return the ASGI application of ``gate``."""
    every = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return Starlette(
        routes=[
            Route(FLEET + "{call}", gate.pass_on, methods=["POST"]),
            Route(HEALTH, gate.healthy, methods=["GET"]),
            Route("/{path:path}", gate.refuse, methods=every),
        ]
    )


async def serve(folder: FederationFolder) -> None:
    """Listen until interrupted."""
    settings = folder.settings()
    superlink = f"https://127.0.0.1:{settings.control_port}"
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(
        base_url=superlink,
        verify=trusting(folder.authority.certificate),
        timeout=_TIMEOUT,
        limits=limits,
        trust_env=False,
    ) as client:
        gate = Gate(client, settings.message_mb * 1_000_000)
        config = uvicorn.Config(
            application(gate),
            host=settings.listen,
            port=settings.port,
            ssl_certfile=str(folder.server.certificate),
            ssl_keyfile=str(folder.server.key),
            ssl_version=ssl.PROTOCOL_TLS_SERVER,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        await uvicorn.Server(config).serve()


def main() -> None:
    """Run the gate of the federation in a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(serve(FederationFolder(parser.parse_args().folder)))


if __name__ == "__main__":
    main()
