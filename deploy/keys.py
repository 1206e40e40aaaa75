"""The key by which a plant proves who it is: made where it is used, and never moved."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bayfed.errors import ConfigError
from deploy.private import read_secret, write_secret


@dataclass(frozen=True)
class PublicKey:
    """What a plant hands over: one line of text in the form of OpenSSH."""

    line: str
    name: str

    @property
    def digest(self) -> str:
        """Its SHA-256 without the name, by which people compare what they have been given."""
        kind, key = self.line.split(" ")[:2]
        return hashlib.sha256(f"{kind} {key}".encode()).hexdigest()


def make_key(private: Path, public: Path, name: str) -> PublicKey:
    """Write a new key pair; the public part ends with the name of the plant.

    Raises:
        ConfigError: one of the files is there already or cannot be written.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    write_secret(private, pem)
    line = _line(key.public_key(), name)
    try:
        public.write_text(line + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{public}: {error.strerror or error}") from error
    return PublicKey(line, name)


def read_public(path: Path) -> PublicKey:
    """Return the public key that a plant has handed over.

    Raises:
        ConfigError: it cannot be read, or is none that Flower accepts.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
        key = serialization.load_ssh_public_key(text.encode())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # the library has several for what it cannot read
        raise ConfigError(f"{path}: not the public key of a node") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ConfigError(f"{path}: not a key on an elliptic curve")
    name = text.split(" ", 2)[2] if text.count(" ") >= 2 else ""
    return PublicKey(_line(key, name), name)


def public_of(private: Path, name: str) -> PublicKey:
    """Return the public part of a node's key.

    Raises:
        ConfigError: as :func:`read_private`.
    """
    return PublicKey(_line(read_private(private).public_key(), name), name)


def read_private(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the private key of a node.

    Raises:
        ConfigError: it cannot be read, others may read it, or it is none.
    """
    content = read_secret(path)
    try:
        key = serialization.load_ssh_private_key(content, None)
    except Exception as error:
        raise ConfigError(f"{path}: not the private key of a node") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path}: not a key on an elliptic curve")
    return key


def _line(key: ec.EllipticCurvePublicKey, name: str) -> str:
    encoded = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{encoded.decode()} {name}".rstrip()
