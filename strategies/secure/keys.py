"""Keys: everything that one secret stands for, what two clients share, and what they seal."""

from __future__ import annotations

import base64
import hashlib
import hmac

from cryptography.exceptions import InvalidSignature
from cryptography.fernet import InvalidToken
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flwr.common.secure_aggregation.crypto.symmetric_encryption import (
    decrypt,
    encrypt,
    generate_shared_key,
)

from bayfed.errors import FederationError

SECRET, SEED, PUBLIC, DIGEST = 32, 16, 33, 32
"""Bytes of a node's secret, of what is cut in shares, of a public key and of a digest."""
_CURVE = ec.SECP256R1()
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
Part = bytes | str | int


def joined(*parts: Part) -> bytes:
    """Return ``parts`` in one text from which they can be told apart.

    >>> joined("ab", 1) == joined("a", "b1")
    False
    """
    texts = [part if isinstance(part, bytes) else repr(part).encode() for part in parts]
    return b"".join(len(text).to_bytes(4, "big") + text for text in texts)


def derive(secret: bytes, *purpose: Part, length: int = 32) -> bytes:
    """Return the key that ``secret`` stands for in one ``purpose`` (HKDF-SHA256, RFC 5869)."""
    info = joined(*purpose)
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=info).derive(secret)


def digest(*parts: Part) -> bytes:
    """Return the SHA-256 of ``parts``."""
    return hashlib.sha256(joined(*parts)).digest()


class KeyPair:
    """A private key on P-256 that a seed stands for, and its public key."""

    def __init__(self, seed: bytes) -> None:
        # 16 bytes more than the order, so that the remainder is as good as uniform.
        number = int.from_bytes(derive(seed, "private key", length=48), "big")
        self._private = ec.derive_private_key(number % (_ORDER - 1) + 1, _CURVE)
        self.public = self._private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
        )

    def agree(self, public: bytes) -> bytes:
        """Return the 32 bytes that only this pair and that of ``public`` know.

        Raises:
            FederationError: ``public`` is no point of the curve.
        """
        try:
            other = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, public)
        except ValueError as error:
            raise FederationError("a public key is not a point of the curve P-256") from error
        return base64.urlsafe_b64decode(generate_shared_key(self._private, other))


def is_public(public: bytes) -> bool:
    """Tell whether ``public`` is a public key: a point of the curve."""
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, public)
    except ValueError:
        return False
    return True


def seal(key: bytes, text: bytes) -> bytes:
    """Return ``text``, encrypted and authenticated."""
    return encrypt(base64.urlsafe_b64encode(key), text)


def unseal(key: bytes, sealed: bytes) -> bytes | None:
    """Return what was sealed, ``None`` where anything was changed."""
    try:
        return decrypt(base64.urlsafe_b64encode(key), sealed)
    except (InvalidToken, InvalidSignature):
        return None


def tag(key: bytes, *parts: Part) -> bytes:
    """Return the code by which who knows ``key`` can tell that ``parts`` were not changed."""
    return hmac.digest(key, joined(*parts), "sha256")
