"""The secret of a node, and the public keys that it was told."""

from __future__ import annotations

import json
import os
import secrets
import stat
from pathlib import Path

from bayfed.errors import ConfigError
from strategies.secure.keys import PUBLIC, SECRET, KeyPair, derive


def make(path: Path) -> bytes:
    """Write a new secret that its owner alone may read, and return its public key.

    Raises:
        ConfigError: the file is there, or cannot be written.
    """
    secret = secrets.token_bytes(SECRET)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    with os.fdopen(file, "w", encoding="ascii") as stream:
        stream.write(secret.hex() + "\n")
    return public_key(secret)


def public_key(secret: bytes) -> bytes:
    """Return the public key that stands for ``secret`` in every run."""
    return KeyPair(derive(secret, "identity")).public


def read(path: Path) -> bytes:
    """Return the secret in a file of 64 hexadecimal digits.

    Raises:
        ConfigError: it cannot be read, others may read it, or it is no secret.
    """
    try:
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(2 * SECRET + 2).strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not 64 hexadecimal digits"
        raise ConfigError(f"secret: {path}: {reason}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"secret: {path}: others may read it (mode {stat.S_IMODE(mode):o}, 600)")
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != SECRET:
        raise ConfigError(f"secret: {path}: not 64 hexadecimal digits")
    return secret


def simulated(seed: int, client: int) -> bytes:
    """Return what takes the place of a secret in a simulation: whoever knows the seed knows it."""
    return derive(str(seed).encode(), "simulated secret", client, length=SECRET)


def read_peers(path: Path) -> dict[int, bytes]:
    """Return the public keys by client, from JSON such as ``{"0": "02ab...", "1": "03cd..."}``.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        peers = {int(client): bytes.fromhex(key) for client, key in found.items()}
    except OSError as error:
        raise ConfigError(f"peers: {path}: {error.strerror or error}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"peers: {path}: not a JSON object of public keys by client") from error
    if any(len(key) != PUBLIC for key in peers.values()):
        raise ConfigError(f"peers: {path}: a public key has {2 * PUBLIC} hexadecimal digits")
    return peers
