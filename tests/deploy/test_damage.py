"""A byte that is damaged between node and server: Flower's own client, over TLS, on loopback."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from flwr.app import Message, RecordDict
from flwr.proto import fleet_pb2, heartbeat_pb2
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.primitives.asymmetric import generate_key_pairs
from flwr.supernode import fleet_http_connection

from deploy.layout import FederationFolder
from deploy.links import Link
from deploy.supernode import bear_damage
from experiments.inprocess import flower_identity

ANSWERS = {
    "activate-node": fleet_pb2.ActivateNodeResponse(node_id=7),
    "send-node-heartbeat": heartbeat_pb2.SendNodeHeartbeatResponse(success=True),
    "push-messages": fleet_pb2.PushMessagesResponse(session_id="s", objects_to_push=["object"]),
    "deactivate-node": fleet_pb2.DeactivateNodeResponse(),
}


class SuperLink(ThreadingHTTPServer):
    """Answers the calls of a node."""

    daemon_threads = True

    def __init__(self, folder: FederationFolder) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder.server.certificate, folder.server.key)
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        self.calls: list[str] = []
        self.beats = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """A connection that was damaged has ended."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        call, server = self.path.rpartition("/")[2], self.server
        assert isinstance(server, SuperLink)
        body = ANSWERS[call].SerializeToString()
        server.calls.append(call)
        self.send_response(200)
        self.send_header("content-type", "application/protobuf")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if call == "send-node-heartbeat":
            server.beats.set()

    def log_message(self, *_: object) -> None:
        """Nothing is of interest."""


@pytest.fixture
def superlink(server: FederationFolder) -> Iterator[SuperLink]:
    found = SuperLink(server)
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def link(superlink: SuperLink) -> Iterator[Link]:
    found = Link(superlink.server_address[1])
    yield found
    found.close()


def push(server: FederationFolder, superlink: SuperLink, link: Link, upward: bool) -> set[str]:
    """Send a reply over a connection that is damaged once it stands."""
    authority = str(server.authority.certificate)
    with flower_identity(), ExitStack() as stack:
        asked = Message(RecordDict(), 7, "train")
        asked.metadata.__dict__["_message_id"] = "m"
        reply = Message(RecordDict(), reply_to=asked)
        connection = stack.enter_context(
            fleet_http_connection.http_request_response(
                f"127.0.0.1:{link.port}", False, authority, generate_key_pairs()
            )
        )
        send, error = connection[2], None
        assert superlink.beats.wait(20.0)
        time.sleep(0.5)  # until the answer to the heartbeat is through
        link.damage(1, upward)
        try:  # what leaves the connection's own context is logged there, and lost
            return send(reply, ObjectTree(object_id="m"), 0.0)[0]
        except httpx.HTTPError as caught:
            error = caught
    raise error


@pytest.mark.parametrize("upward", [True, False], ids=["the request", "the answer"])
def test_a_reply_that_was_damaged_on_its_way_is_sent_again(
    server: FederationFolder, superlink: SuperLink, link: Link, upward: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    name = "make_simple_http_retry_invoker"
    monkeypatch.setattr(fleet_http_connection, name, getattr(fleet_http_connection, name))
    bear_damage(fleet_http_connection)
    assert push(server, superlink, link, upward) == {"object"}
    assert superlink.calls.count("push-messages") == (1 if upward else 2)


def test_flower_itself_would_throw_it_away(
    server: FederationFolder, superlink: SuperLink, link: Link
) -> None:
    with pytest.raises(httpx.ReadError, match="SSL"):
        push(server, superlink, link, upward=False)


class Invoker:
    """What Flower's retry looks like."""

    def __init__(self) -> None:
        self.should_giveup = lambda error: "ssl" in str(error).lower()
        self.on_success = lambda _: None


class Flower:
    make_simple_http_retry_invoker = staticmethod(Invoker)


def test_a_handshake_that_goes_on_failing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flower, "make_simple_http_retry_invoker", staticmethod(Invoker))
    bear_damage(Flower)
    invoker = Flower.make_simple_http_retry_invoker()
    shaken = httpx.ConnectError("[SSL: DECODE_ERROR]")
    assert [invoker.should_giveup(shaken) for _ in range(6)] == [False] * 5 + [True]
    invoker.on_success(None)
    assert not invoker.should_giveup(shaken)
    foreign = httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    assert invoker.should_giveup(foreign)
    assert not any(invoker.should_giveup(httpx.ReadError("[SSL] bad mac")) for _ in range(99))
