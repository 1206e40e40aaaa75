"""The only way in from outside: what a node needs of the SuperLink, and nothing else.

All interfaces of a SuperLink listen on one port, and whoever reaches its control interface can
register nodes and submit runs. So the SuperLink listens on loopback, and this small reverse proxy
in front of it lets through the paths of the Fleet API that a registered node uses. Nodes sign their
requests themselves; the signature goes through as it is, and the SuperLink judges it.

A node without a message asks again after three seconds only. So a question to which the SuperLink
has no message yet is kept open here, and asked anew until there is one. What the SuperLink has
handed out it never hands out again; where the line to the node was cut by then, the gate does.

The SuperLink ties a call to the key that signed it, but believes what a message in it says of its
sender: a plant could send another one instructions as if it were the server. The gate lets through
replies in the node's own name.

How much of it one plant and one address may have is in ``deploy/limits.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import ssl
import time
from pathlib import Path

import httpx
import uvicorn
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER as KEY
from google.protobuf.message import DecodeError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from deploy.certificates import trusting
from deploy.layout import FederationFolder
from deploy.limits import CALLS_AT_ONCE, CONNECTIONS, SILENCE, Rate, Shares, counted, later, whose

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
PULL, CONFIRM, PUSH = "pull-messages", "confirm-message-received", "push-messages"
HEALTH = "/health"
HOLD = 15.0
"""Seconds for which a question is kept open; a node gives it up after 30."""
LOOK, SPREAD, GROWTH = 0.25, 0.01, 1.15
"""Seconds until the next look for a message, by how much each open question lengthens them, and by
how much each look: who has waited for long may as well wait for longer."""
AGAIN = 60.0
"""Seconds for which a message may be handed out again; then the SuperLink takes a node for gone."""
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

    Args:
        client: The same.
        largest: The same.
        calls: A second, of one plant.
        plants: How many there are.
    """

    def __init__(
        self, client: httpx.AsyncClient, largest: int, calls: int = 50, plants: int = 3
    ) -> None:
        self.client, self.largest = client, largest
        self._plants, self._addresses = Rate(calls), Rate(calls * plants)
        self._held = Shares(CALLS_AT_ONCE * largest, 4 * CALLS_AT_ONCE * largest)
        self._told: set[tuple[str, str]] = set()
        self._open: dict[str, object] = {}
        self._handed: dict[str, tuple[float, httpx.Response]] = {}

    async def pass_on(self, request: Request) -> Response:
        """Return the SuperLink's answer to a call of a node."""
        call = request.path_params["call"]
        if call not in CALLS:
            return await self.refuse(request)
        if not self._may_call(request):
            return later()
        held, sender = _Held(self._held, _address(request)), request.headers.get(KEY, "")
        try:
            body = await self._body(request, held)
            if call == PUSH and not _in_own_name(body):
                self._tell(request, "a message that is no reply of its sender")
                return PlainTextResponse("a node sends replies of its own", 403)
            answer = await self._asked(request, call, body)
        except TooLargeError:
            self._tell(request, f"a request above {self.largest} bytes")
            return PlainTextResponse("the request is too large", 413)
        except TooMuchError:
            self._tell(request, "more requests at once than there is memory for")
            return later()
        except TimeoutError:
            return PlainTextResponse("the request has not come", 408)
        except httpx.TransportError:
            return PlainTextResponse("the SuperLink is away", 503)
        finally:
            held.give_back()
        if answer.is_success:
            self._plants.charge(sender)
        kept = {k: v for k, v in answer.headers.items() if k not in _HOP | _LENGTHS}
        return Response(answer.content, answer.status_code, kept)

    async def _asked(self, request: Request, call: str, body: bytes) -> httpx.Response:
        headers = [(k, v) for k, v in request.headers.items() if k not in _HOP | _LENGTHS]
        answer = await self.client.post(FLEET + call, content=body, headers=headers)
        if answer.is_success and call == PULL:
            return await self._pulled(request, body, headers, answer)
        if answer.is_success and call == CONFIRM:
            self._handed.pop(request.headers.get(KEY, ""), None)
        return answer

    async def _pulled(
        self,
        request: Request,
        body: bytes,
        headers: list[tuple[str, str]],
        answer: httpx.Response,
    ) -> httpx.Response:
        """Return the next message of a node, or ``answer`` where there is none in time."""
        who = request.headers.get(KEY, "")
        if not answer.content:
            since, again = self._handed.pop(who, (-math.inf, answer))
            if time.monotonic() - since < AGAIN:
                return again
            answer = await self._hold(request, body, headers, answer)
        if answer.content:
            self._handed[who] = (time.monotonic(), answer)
        return answer

    async def _hold(
        self,
        request: Request,
        body: bytes,
        headers: list[tuple[str, str]],
        nothing: httpx.Response,
    ) -> httpx.Response:
        """Return the SuperLink's answer as soon as it holds a message, or ``nothing``.

        Nothing is taken for a node that has hung up or asked anew. Where the SuperLink refuses a
        question that it has accepted before, its signature has grown old: the node signs the next.
        """
        who, mine = request.headers.get(KEY, ""), object()
        until, pause = time.monotonic() + HOLD, LOOK + SPREAD * len(self._open)
        self._open[who] = mine
        try:
            while time.monotonic() < until:
                await asyncio.sleep(pause)
                pause *= GROWTH
                if self._open.get(who) is not mine or await request.is_disconnected():
                    break
                answer = await self.client.post(FLEET + PULL, content=body, headers=headers)
                if not answer.is_success:
                    break
                if answer.content:
                    return answer
            return nothing
        finally:
            if self._open.get(who) is mine:
                del self._open[who]

    def _may_call(self, request: Request) -> bool:
        """Note a call, and tell whether it is not one too many of its address, or of its plant."""
        address, key = _address(request), request.headers.get(KEY, "")
        if not self._addresses.has_left(address):
            self._tell(request, "more calls a second than all plants may make")
            return False
        self._addresses.charge(address)
        if not self._plants.has_left(key):
            self._tell(request, f"more calls a second than one plant may make, key {key[:40]!r}")
            return False
        return True

    async def refuse(self, request: Request) -> Response:
        """Answer as if there were nothing."""
        self._addresses.charge(_address(request))
        self._tell(request, f"{request.method} {request.url.path[:80]!r}")
        return PlainTextResponse("there is nothing here", 404)

    async def healthy(self, request: Request) -> Response:
        """Say whether the SuperLink answers; the header ``Date`` is the server's clock."""
        if not self._may_call(request):
            return later()
        try:
            answer = await self.client.get(HEALTH, timeout=5.0)
        except httpx.TransportError:
            return PlainTextResponse("the SuperLink is away", 503)
        return PlainTextResponse("", answer.status_code)

    async def _body(self, request: Request, held: _Held) -> bytes:
        parts, stream = list[bytes](), aiter(request.stream())
        while (part := await asyncio.wait_for(anext(stream, None), SILENCE)) is not None:
            if held.much + len(part) > self.largest:
                raise TooLargeError
            if not held.take(len(part)):
                raise TooMuchError
            parts.append(part)
        return b"".join(parts)

    def _tell(self, request: Request, what: str) -> None:
        # Once for each sender, so that nobody can fill the disk.
        sender = request.client.host if request.client else "somebody"
        if (sender, what) not in self._told and len(self._told) < _REMEMBERED:
            self._told.add((sender, what))
            log.warning("refused: %s from %s", what, sender)


def _in_own_name(body: bytes) -> bool:
    """Say whether all messages in the body of a call are replies of the node that makes it."""
    try:
        call = PushMessagesRequest.FromString(body)
    except DecodeError:
        return True  # the SuperLink says so itself
    said = [message.metadata for message in call.messages_list]
    return all(m.src_node_id == call.node.node_id and m.reply_to_message_id for m in said)


def _address(request: Request) -> str:
    return whose(request.client.host if request.client else None)


class _Held:
    """The memory that one call takes."""

    def __init__(self, shares: Shares, sender: str) -> None:
        self._shares, self._sender, self.much = shares, sender, 0

    def take(self, more: int) -> bool:
        taken = self._shares.take(self._sender, more)
        self.much += more if taken else 0
        return taken

    def give_back(self) -> None:
        self._shares.give_back(self._sender, self.much)


class TooLargeError(Exception):
    """A request is larger than the gate lets through."""


class TooMuchError(Exception):
    """Requests that are still coming take more memory than they may."""


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
        largest = settings.message_mb * 1_000_000
        gate = Gate(client, largest, settings.calls, settings.plants)
        connections = Shares(CONNECTIONS * (settings.plants + 1))
        config = uvicorn.Config(
            application(gate),
            host=settings.listen,
            port=settings.port,
            ssl_certfile=str(folder.server.certificate),
            ssl_keyfile=str(folder.server.key),
            ssl_version=ssl.PROTOCOL_TLS_SERVER,
            log_level="error",  # a warning for each senseless request would fill the disk
            access_log=False,
            server_header=False,
            http=counted(connections),
            ws="none",  # whose connections would not be counted
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
