"""The names under which the messages of the protocol travel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from flwr.app import ConfigRecord, RecordDict

from strategies.secure.records import Form

FORMS, MASKED, JOURNAL = "secure.forms", "secure.masked", "secure.journal"
KEYS, SHARES, CONFIRM, UNMASK = (
    f"query.{step}" for step in ("keys", "shares", "confirm", "unmask")
)
COUNT = "clients"
"""The name of the 1 that each client adds, by which the server sees that the sum is right."""
Found = TypeVar("Found", bound=Form)


def to_content(*forms: Form) -> RecordDict:
    """Return ``forms`` as the content of a message: one record, for each costs calls of its own."""
    fields = (
        (f"{type(form).__name__.lower()}.{key}", value)
        for form in forms
        for key, value in form.record().items()
    )
    return RecordDict({FORMS: ConfigRecord(dict(fields))})


def size(content: RecordDict) -> int:
    """Return the bytes of all forms in a message (Flower's own count fails on empty lists)."""
    values = list(content.config_records.get(FORMS, {}).values())
    items = [i for value in values for i in (value if isinstance(value, list) else [value])]
    return sum(len(item) if isinstance(item, bytes | str) else 8 for item in items)


def of_content(content: RecordDict, form: type[Found]) -> Found:
    """Return the message of one form in ``content``.

    Raises:
        FederationError: it is missing, or not as expected.
    """
    start = f"{form.__name__.lower()}."
    record: Mapping[str, object] = content.config_records.get(FORMS, {})
    found = {k.removeprefix(start): value for k, value in record.items() if k.startswith(start)}
    return form.of(found or None)
