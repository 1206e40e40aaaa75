"""The federation's own certificate authority and the certificate of its server."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bayfed.errors import ConfigError
from deploy.private import read_secret, write_secret

LOOPBACK = ("127.0.0.1", "localhost")
"""The administrator's way in, which every server certificate names besides."""
_SLACK = timedelta(minutes=10)
"""By how much a plant's clock may be late when a certificate is new."""


@dataclass(frozen=True)
class Pair:
    """A certificate, which everybody may read, and its private key."""

    certificate: Path
    key: Path


def make_authority(pair: Pair, name: str, days: int) -> None:
    """Write the key and the certificate of a new authority.

    Raises:
        ConfigError: one of the files is there already or cannot be written.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    subject = _subject(f"{name} authority")
    made = (
        _builder(subject, subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certifies=True), critical=True)
        .add_extension(_identifier(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    _write(pair, key, made)


def make_server(pair: Pair, authority: Pair, hosts: Sequence[str], days: int) -> None:
    """Write a key and a certificate for a server that answers to ``hosts``.

    A pair that is there is replaced: its nodes trust the authority, not the certificate.

    Raises:
        ConfigError: the authority cannot be read or has expired, or a host is none.
    """
    issuer, issuer_key = load(authority.certificate), _load_key(authority.key)
    if issuer.not_valid_after_utc < datetime.now(UTC):
        raise ConfigError(f"{authority.certificate}: expired on {issuer.not_valid_after_utc:%F}")
    key = ec.generate_private_key(ec.SECP384R1())
    known = dict.fromkeys([*hosts, *LOOPBACK])
    names = x509.SubjectAlternativeName([_alternative(host) for host in known])
    last = issuer.not_valid_after_utc
    made = (
        _builder(_subject(hosts[0]), issuer.subject, key.public_key(), days, last)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certifies=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_identifier(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .sign(issuer_key, hashes.SHA384())
    )
    _write(pair, key, made, replace=True)


def load(path: Path) -> x509.Certificate:
    """Return the certificate at ``path``.

    Raises:
        ConfigError: there is none that can be read.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not a certificate") from error


def digest(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate, by which people compare what they have been given."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def days_left(certificate: x509.Certificate) -> int:
    """Return for how many more days a certificate is valid, negative when it has expired."""
    return (certificate.not_valid_after_utc - datetime.now(UTC)).days


def trusting(certificate: Path) -> ssl.SSLContext:
    """Return the settings of a client that trusts this authority and no other.

    Raises:
        ConfigError: there is no certificate at that path.
    """
    load(certificate)
    return ssl.create_default_context(cafile=str(certificate))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    days: int,
    last: datetime | None = None,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    end = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(end if last is None else min(end, last))
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _identifier(key: ec.EllipticCurvePublicKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key)


def _usage(certifies: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certifies,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certifies,
        crl_sign=certifies,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        if not host:
            raise ValueError
        return x509.DNSName(host)
    except ValueError as error:
        raise ConfigError(f"host {host!r}: neither a name nor an address") from error


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(read_secret(path), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not a private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path}: not a key on an elliptic curve")
    return key


def _write(
    pair: Pair, key: ec.EllipticCurvePrivateKey, made: x509.Certificate, replace: bool = False
) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_secret(pair.key, pem, replace)
    try:
        pair.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        raise ConfigError(f"{pair.certificate}: {error.strerror or error}") from error
