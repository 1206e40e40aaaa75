"""The names under which the messages of the protocol travel."""

from __future__ import annotations

from typing import TypeVar

from flwr.app import RecordDict

from strategies.secure.records import Form

PREFIX = "secure."
MASKED = f"{PREFIX}masked"
JOURNAL = f"{PREFIX}journal"
KEYS, SHARES, CONFIRM, UNMASK = (
    f"query.{step}" for step in ("keys", "shares", "confirm", "unmask")
)
COUNT = "clients"
"""The name of the 1 that each client adds, by which the server sees that the sum is right."""
Found = TypeVar("Found", bound=Form)


def to_content(*forms: Form) -> RecordDict:
    """Return ``forms`` as the content of a message."""
    return RecordDict({f"{PREFIX}{type(form).__name__.lower()}": form.record() for form in forms})


def size(content: RecordDict) -> int:
    """Return the bytes of all forms in a message (Flower's own count fails on empty lists)."""
    records = (r for key, r in content.config_records.items() if key.startswith(PREFIX))
    values = [value for record in records for value in record.values()]
    items = [i for value in values for i in (value if isinstance(value, list) else [value])]
    return sum(len(item) if isinstance(item, bytes | str) else 8 for item in items)


def of_content(content: RecordDict, form: type[Found]) -> Found:
    """Return the message of one form in ``content``.

    Raises:
        FederationError: it is missing, or not as expected.
    """
    return form.of(content.config_records.get(f"{PREFIX}{form.__name__.lower()}"))
