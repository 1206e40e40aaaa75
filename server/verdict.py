"""Whether a reply may be used: what every reply must be like, whatever it answers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from flwr.app import Message, MetricRecord

from bayfed.errors import BayfedError, one_line
from server.inbox import Answer
from strategies.wire import ERROR, METRICS, WEIGHT, Member, config_of, metrics_of

Refusal = Callable[[Message], str | None]
"""Why a reply must not be used, or ``None``."""
LONGEST = 300
"""Characters of a reason that a stranger has given, or has a part in."""
MAX_METRICS = 64
MAX_SECONDS = 1e9
_METRIC = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/+-]{0,63}")
_OWN = frozenset({"name", "episodes"})
"""What the history says of a client beside its metrics."""
_RAISED = re.compile(r"<class '[\w.]+'>:<'(.*)'>", re.DOTALL)
"""How Flower tells of what was raised in a client's process."""


def verdict(answer: Answer | None, member: Member, refusal: Refusal) -> str | None:
    """Return why the answer of ``member`` must not be used, or ``None``.

    What a stranger has sent may make anything raise: that is a reason like any other.

    Args:
        answer: What has come, ``None`` for nothing.
        member: Who was asked.
        refusal: What the one who asked makes of it.
    """
    if answer is None:
        return "no reply in time"
    if isinstance(answer, str):
        return said(answer)
    try:
        reason = _reason(answer, member) or refusal(answer)
    except BayfedError as error:
        reason = one_line(error)
    except Exception as error:
        reason = f"the reply cannot be used ({one_line(error)})"
    return None if reason is None else said(reason)


def said(text: str) -> str:
    r"""Return the words of a stranger as one line of a reasonable length.

    >>> said("one\n two\x1b[31m")
    'one two[31m'
    """
    line = " ".join(text[: 4 * LONGEST].split())
    return "".join(c for c in line if c.isprintable())[:LONGEST] or "no reason given"


def _reason(reply: Message, member: Member) -> str | None:
    if reply.has_error():
        return _RAISED.sub(r"\1", str(reply.error.reason)).strip() or "the node is gone"
    if ERROR in reply.content:
        return str(config_of(reply, ERROR).get("message", "failed"))
    if member.client >= 0 and metrics_of(reply).get("partition") != member.client:
        return f"the reply is not from client {member.client}"
    return _strange(reply)


def _strange(reply: Message) -> str | None:
    """Return why the metrics of a reply cannot stand in the history, or ``None``."""
    record = reply.content.get(METRICS)
    if not isinstance(record, MetricRecord):
        return None
    if len(record) > MAX_METRICS:
        return f"{len(record)} metrics, at most {MAX_METRICS} are accepted"
    for name in record:
        if name in _OWN or not _METRIC.fullmatch(name):
            return f"a metric cannot be called {name[:60]!r}"
    metrics = metrics_of(reply)
    seconds, weight = metrics.get("seconds", 0.0), metrics.get(WEIGHT, 0)
    if not (math.isfinite(seconds) and 0 <= seconds <= MAX_SECONDS):
        return f"it has computed for {seconds} seconds"
    return None if isinstance(weight, int) else f"{WEIGHT} is {weight}, no number of examples"
