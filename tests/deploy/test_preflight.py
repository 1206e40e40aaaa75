from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path

import pytest
import yaml

from bayfed.errors import ConfigError, FederationError
from deploy import certificates
from deploy.certificates import make_authority, make_server
from deploy.layout import FederationFolder, NodeFolder
from deploy.ports import require_free
from deploy.preflight import UnreachableError, check_own, check_server


@contextmanager
def listening(server: FederationFolder, plant: NodeFolder, ahead: float = 0.0) -> Iterator[None]:
    """Answer as a gate whose clock is ``ahead``, and let the plant dial it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:  # noqa: ARG002
            import time

            return formatdate(time.time() + ahead, usegmt=True)

        def log_message(self, format: str, *words: object) -> None:  # noqa: A002
            pass

    listener = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.server.certificate, server.server.key)
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    change(plant, server=f"127.0.0.1:{listener.server_port}")
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


def change(plant: NodeFolder, **settings: object) -> None:
    tree = yaml.safe_load(plant.settings_file.read_text())
    plant.settings_file.write_text(yaml.safe_dump({**tree, **settings}))


def test_a_server_of_this_federation_passes(server: FederationFolder, plant: NodeFolder) -> None:
    with listening(server, plant):
        check_server(plant)


@pytest.mark.parametrize(
    ("ahead", "word"),
    [(3600.0, "behind"), (310.0, "behind"), (-8.0, "ahead of"), (-3600.0, "ahead of")],
)
def test_a_clock_for_which_flower_would_refuse_the_node_is_told(
    server: FederationFolder, plant: NodeFolder, ahead: float, word: str
) -> None:
    with listening(server, plant, ahead), pytest.raises(FederationError) as told:
        check_server(plant)
    assert f"s {word} the server's" in str(told.value)


@pytest.mark.parametrize("ahead", [290.0, -3.0])
def test_a_clock_that_is_a_little_off_passes(
    server: FederationFolder, plant: NodeFolder, ahead: float
) -> None:
    with listening(server, plant, ahead):
        check_server(plant)


def test_a_foreign_server_is_told(
    server: FederationFolder, plant: NodeFolder, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = FederationFolder(tmp_path / "other")
    make_authority(other.authority, "other", 2)
    plant.authority.write_bytes(other.authority.certificate.read_bytes())
    with (
        listening(server, plant),
        pytest.raises(FederationError, match="not from this federation's authority"),
    ):
        check_server(plant)


def test_an_expired_server_is_told(
    server: FederationFolder, plant: NodeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "_SLACK", timedelta(days=3))
    make_server(server.server, server.authority, ["127.0.0.1"], -1)
    with listening(server, plant), pytest.raises(FederationError, match="has expired"):
        check_server(plant)


def test_a_server_that_is_away_is_no_mistake_of_the_node(plant: NodeFolder) -> None:
    with pytest.raises(UnreachableError, match=r"127.0.0.1:1: "):
        check_server(plant)


def test_a_node_that_is_enrolled_passes(plant: NodeFolder) -> None:
    check_own(plant)


@pytest.mark.parametrize("key", ["data", "weights"])
def test_a_path_that_is_missing_is_named(plant: NodeFolder, key: str) -> None:
    change(plant, **{key: "/nowhere"})
    with pytest.raises(ConfigError, match=rf"node.yaml: {key}: /nowhere: No such file"):
        check_own(plant)


def test_a_key_that_others_may_read_stops_the_node(plant: NodeFolder) -> None:
    plant.key.chmod(0o644)
    with pytest.raises(ConfigError, match=r"node.key: others may read"):
        check_own(plant)


def test_a_port_in_use_is_named(plant: NodeFolder) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        change(plant, port=port)
        with pytest.raises(FederationError, match=rf"port: port {port} of 127.0.0.1 is in use"):
            check_own(plant)
    require_free("127.0.0.1", port, "port")
