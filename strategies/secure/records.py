"""The messages of the protocol, and their form in Flower's records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, TypeVar

from flwr.app import ConfigRecord

from bayfed.errors import FederationError
from strategies.secure.keys import DIGEST, PUBLIC, digest, joined
from strategies.secure.shares import SHARE

SEALED = 256
"""Longest accepted sealed text, in bytes."""
LARGEST = 2**62
"""Largest number of an attempt, so that the next one is a number still."""
SMALLEST = 3
"""Members of the smallest cohort: a sum of two tells each of them the other's part."""
Found = TypeVar("Found", bound="Form")


@dataclass(frozen=True)
class Form:
    """A message whose fields are integers, bytes, tuples of integers or bytes by client."""

    def record(self) -> ConfigRecord:
        """Return the message as a record."""
        content: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Mapping):
                content[f"{item.name}.of"] = list(value)
                value = list(value.values())
            content[item.name] = list(value) if isinstance(value, tuple) else value
        return ConfigRecord(content)

    @classmethod
    def of(cls: type[Found], record: Mapping[str, object] | None) -> Found:
        """Return the message in ``record``.

        Raises:
            FederationError: a field is missing, of another type, or too long.
        """
        if record is None:
            raise FederationError(f"the message holds no {cls.__name__.lower()}")
        return cls(**{item.name: _read(record, item.name, item) for item in fields(cls)})


def _read(record: Mapping[str, object], name: str, item: Any) -> Any:
    value: Any = record.get(name)
    owners: Any = record.get(f"{name}.of")
    most = item.metadata.get("most", DIGEST)
    match item.type:
        case "int" if type(value) is int:
            return value
        case "bytes" if isinstance(value, bytes) and len(value) <= most:
            return value
        case "tuple[int, ...]" if _are_clients(value):
            return tuple(value)
        case "dict[int, bytes]" if _are_texts(value, most):
            if _are_clients(owners) and len(owners) == len(value):
                return dict(zip(owners, value, strict=True))
    raise FederationError(f"{name!r} of the secure aggregation is not as expected")


def _are_clients(value: Any) -> bool:
    integers = isinstance(value, list) and all(type(v) is int for v in value)
    return integers and len(set(value)) == len(value)


def _are_texts(value: Any, most: int) -> bool:
    return isinstance(value, list) and all(isinstance(v, bytes) and len(v) <= most for v in value)


@dataclass(frozen=True)
class Attempt(Form):
    """One try of a sum: who takes part, and how many of them it needs.

    Attributes:
        run: Of the run, drawn by the server.
        number: Larger than every one before it.
        threshold: t, the least number of clients in a sum and of shares that give a secret back.
        keys: The public keys of the cohort.
    """

    run: bytes
    number: int
    threshold: int
    keys: dict[int, bytes] = field(metadata={"most": PUBLIC})

    @cached_property
    def digest(self) -> bytes:
        """What everything in the attempt is bound to."""
        keys = (joined(client, self.keys[client]) for client in sorted(self.keys))
        return digest("attempt", self.run, self.number, self.threshold, *keys)

    def position(self, client: int) -> int:
        """Return the place of ``client`` among the shares, from 0."""
        return sorted(self.keys).index(client)

    def check(self) -> None:
        """Check what both sides must insist on.

        Raises:
            FederationError: the cohort or the threshold would hide nothing.
        """
        size = len(self.keys)
        if size < SMALLEST:
            raise FederationError(
                f"federation.secure: a sum over {size} clients hides none of them, "
                f"at least {SMALLEST} are needed"
            )
        if not size / 2 < self.threshold <= size:
            raise FederationError(
                f"federation.secure: a threshold of {self.threshold} for {size} clients, "
                "more than half of them and no more than all are expected"
            )
        if len(set(self.keys.values())) < size:
            raise FederationError("federation.secure: two clients have the same public key")
        if not 0 < self.number <= LARGEST:
            raise FederationError(f"federation.secure: {self.number} is no number of an attempt")


@dataclass(frozen=True)
class Following(Attempt):
    """The attempt that is to come next, with the same meaning as it will have then."""

    @classmethod
    def on(cls, attempt: Attempt) -> Following:
        """Return ``attempt`` as the next one."""
        return cls(attempt.run, attempt.number, attempt.threshold, attempt.keys)


@dataclass(frozen=True)
class Hello(Form):
    """What a client answers to ``query.keys``.

    Attributes:
        public: Its public key.
        latest: The number of its last attempt.
    """

    public: bytes = field(metadata={"most": PUBLIC})
    latest: int


@dataclass(frozen=True)
class Offer(Form):
    """What a client answers to ``query.shares``, or where it unmasks the sum before.

    Attributes:
        public: Of its masking key.
        proof: The digest of its own mask's seed.
        sealed: Its shares, for every member of the cohort.
    """

    public: bytes = field(metadata={"most": PUBLIC})
    proof: bytes
    sealed: dict[int, bytes] = field(metadata={"most": SEALED})


@dataclass(frozen=True)
class Mailbox(Form):
    """What the others sealed for a client; their clients are the :math:`U_2` of the attempt."""

    sealed: dict[int, bytes] = field(metadata={"most": SEALED})


@dataclass(frozen=True)
class Tags(Form):
    """That the sender was told of certain clients, for each of its peers."""

    tags: dict[int, bytes] = field(metadata={"most": DIGEST})


@dataclass(frozen=True)
class Delivered(Form):
    """V: whose masked vectors have arrived."""

    clients: tuple[int, ...]


@dataclass(frozen=True)
class Agreed(Form):
    """What V have told a client of :math:`U_2`, and of V if it is smaller."""

    sharing: dict[int, bytes] = field(metadata={"most": DIGEST})
    delivered: dict[int, bytes] = field(metadata={"most": DIGEST})


@dataclass(frozen=True)
class Revealed(Form):
    """A client's shares: of the own mask's seed of V, and of the masking key of the others."""

    shares: dict[int, bytes] = field(metadata={"most": SHARE})
