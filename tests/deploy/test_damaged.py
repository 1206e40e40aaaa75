from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from flwr.supercore.retry.http_retry import make_simple_http_retry_invoker

from deploy.certificates import Pair, make_authority, make_server, trusting
from deploy.damaged import try_again
from deploy.links import Link


class Echo(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def authority(tmp_path: Path) -> Pair:
    pair = Pair(tmp_path / "ca.crt", tmp_path / "ca.key")
    make_authority(pair, "test", 2)
    return pair


@pytest.fixture
def link(tmp_path: Path, authority: Pair) -> Iterator[Link]:
    own = Pair(tmp_path / "server.crt", tmp_path / "server.key")
    make_server(own, authority, ["127.0.0.1"], 1)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    link = Link(server.server_address[1])
    yield link
    link.close()
    server.shutdown()
    server.server_close()


def test_a_reply_that_was_damaged_on_the_way_is_sent_again(
    link: Link, authority: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httpx.Client, "send", httpx.Client.send)
    url, flower = f"https://127.0.0.1:{link.port}", make_simple_http_retry_invoker()
    with httpx.Client(verify=trusting(authority.certificate), trust_env=False) as client:
        assert flower.invoke(client.post, url, content=b"first").content == b"first"
        link.damage()
        with pytest.raises(httpx.TransportError):  # as Flower is
            flower.invoke(client.post, url, content=b"lost")

        try_again()
        assert flower.invoke(client.post, url, content=b"second").content == b"second"
        link.damage()
        assert flower.invoke(client.post, url, content=b"third").content == b"third"


def test_a_foreign_certificate_stays_an_error(
    link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httpx.Client, "send", httpx.Client.send)
    foreign = Pair(tmp_path / "other.crt", tmp_path / "other.key")
    make_authority(foreign, "other", 2)
    try_again()
    with (
        httpx.Client(verify=trusting(foreign.certificate), trust_env=False) as client,
        pytest.raises(httpx.ConnectError, match=r"(?i)certificate"),
    ):
        client.post(f"https://127.0.0.1:{link.port}", content=b"")
