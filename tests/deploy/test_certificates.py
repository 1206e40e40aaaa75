from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from bayfed.errors import ConfigError
from deploy import certificates
from deploy.certificates import Pair, make_authority, make_server
from deploy.private import read_secret, write_secret


def pair(folder: Path, name: str) -> Pair:
    return Pair(folder / f"{name}.crt", folder / f"{name}.key")


def made(
    folder: Path, days: int = 2, hosts: tuple[str, ...] = ("fed.example", "192.0.2.7")
) -> Pair:
    authority, server = pair(folder, "ca"), pair(folder, "server")
    make_authority(authority, "test", 4)
    make_server(server, authority, hosts, days)
    return server


def shake_hands(server: Pair, authority: Path, host: str) -> None:
    """Let a client and a server talk TLS in memory."""
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(server.certificate, server.key)
    theirs = certificates.trusting(authority)
    theirs.verify_flags |= ssl.VERIFY_X509_STRICT  # as newer Pythons do
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = theirs.wrap_bio(down, up, server_hostname=host)
    listener = ours.wrap_bio(up, down, server_side=True)
    for side in (client, listener, client, listener):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


@pytest.mark.parametrize("host", ["fed.example", "192.0.2.7", "localhost", "127.0.0.1"])
def test_a_client_that_trusts_the_authority_talks_to_every_host(tmp_path: Path, host: str) -> None:
    shake_hands(made(tmp_path), tmp_path / "ca.crt", host)


def test_another_host_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(made(tmp_path), tmp_path / "ca.crt", "other.example")


def test_another_authority_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    made(tmp_path / "one")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(made(tmp_path / "two"), tmp_path / "one" / "ca.crt", "fed.example")


def test_an_expired_certificate_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "_SLACK", timedelta(days=3))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(made(tmp_path, days=-1), tmp_path / "ca.crt", "fed.example")


def test_the_server_lives_no_longer_than_the_authority(tmp_path: Path) -> None:
    server = certificates.load(made(tmp_path, days=1000).certificate)
    authority = certificates.load(tmp_path / "ca.crt")
    assert server.not_valid_after_utc == authority.not_valid_after_utc
    assert timedelta(days=3) < authority.not_valid_after_utc - datetime.now(UTC)
    assert certificates.days_left(authority) == 3


def test_a_server_certificate_signs_nothing(tmp_path: Path) -> None:
    server = certificates.load(made(tmp_path).certificate)
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_new_server_certificate_is_trusted_as_the_old_one(tmp_path: Path) -> None:
    server = made(tmp_path)
    before = server.certificate.read_bytes()
    make_server(server, pair(tmp_path, "ca"), ["fed.example"], 1)
    assert server.certificate.read_bytes() != before
    shake_hands(server, tmp_path / "ca.crt", "fed.example")


def test_private_keys_are_for_their_owner_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made(tmp_path)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.key")} == {0o600}


def test_an_authority_is_not_replaced(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(ConfigError, match=r"ca.key: is there already"):
        make_authority(pair(tmp_path, "ca"), "test", 4)


def test_a_secret_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is there already"):
        write_secret(tmp_path / "link", b"secret")
    assert not (tmp_path / "elsewhere").exists()


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    write_secret(tmp_path / "key", b"secret")
    assert read_secret(tmp_path / "key") == b"secret"
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(ConfigError, match="others may read this key, run: chmod 600"):
        read_secret(tmp_path / "key")


@pytest.mark.parametrize("host", ["exämple", ""])
def test_a_host_that_is_none_is_named(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match="host"):
        made(tmp_path, hosts=(host,))


def test_what_is_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("nothing")
    with pytest.raises(ConfigError, match=r"ca.crt: not a certificate"):
        certificates.load(tmp_path / "ca.crt")
    with pytest.raises(ConfigError, match="No such file"):
        certificates.load(tmp_path / "nowhere")
