"""Sums over clients of statistics that add up exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from flwr.app import Message
from torch import Tensor

from bayfed.errors import FederationError
from server.exchange import Replies
from server.verdict import Refusal
from strategies.schema import mismatch
from strategies.wire import arrays_of

Unlikely = Callable[[Mapping[str, Tensor]], str | None]
"""Why a client's tensors cannot be what it was asked for, or ``None``."""
LARGEST = 1e30
"""Size of a number from which on a sum of such, or its square, may be none."""
LARGEST_COUNT = 2**53
"""Size of an integer, likewise."""


def refusal(unlikely: Unlikely = lambda _: None) -> Refusal:
    """Return what tells why the tensors in a reply must not be added.

    Args:
        unlikely: Knows what the tensors mean; a client with nothing to add sends none.
    """

    def judge(reply: Message) -> str | None:
        try:
            tensors = arrays_of(reply)
        except FederationError as error:
            return str(error)
        return mismatch(tensors, tensors) or _too_large(tensors) or unlikely(tensors)

    return judge


@dataclass(frozen=True)
class Total:
    """A sum over clients.

    Attributes:
        tensors: The sum.
        clients: How many have added to it.
        exchanges: What was sent for it.
    """

    tensors: dict[str, Tensor]
    clients: int
    exchanges: list[Replies]


def agree(replies: Replies) -> None:
    """Refuse the replies whose tensors have other names, shapes or types than those of most.

    Where no form has the majority the first client's counts. Clients that hold nothing to add reply
    with no tensors and are passed over.
    """
    each = {member: arrays_of(reply) for member, reply in replies.good.items()}
    each = {member: tensors for member, tensors in each.items() if tensors}
    if not each:
        return
    usual = Counter(_form(tensors) for tensors in each.values()).most_common(1)[0][0]
    template = next(tensors for tensors in each.values() if _form(tensors) == usual)
    for member, tensors in each.items():
        if reason := mismatch(tensors, template):
            replies.refuse(member, reason)


def total(
    replies: Replies, bounded: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
) -> Total:
    """Return the sum of the replies' tensors in the order of the clients, in float64 where real.

    Args:
        replies: Of the clients, which :func:`agree`.
        bounded: Makes what is added of what a client has sent.
    """
    each = [tensors for reply in replies.good.values() if (tensors := arrays_of(reply))]
    if not each:
        return Total({}, 0, [replies])
    sums = {key: torch.zeros_like(value, dtype=_wide(value)) for key, value in each[0].items()}
    for tensors in each:
        own = bounded(tensors)
        sums = {key: value + own[key] for key, value in sums.items()}
    found = {key: value.to(each[0][key]) for key, value in sums.items()}
    return Total(found, len(each), [replies])


def _form(tensors: Mapping[str, Tensor]) -> tuple[object, ...]:
    return tuple((name, t.shape, t.dtype) for name, t in sorted(tensors.items()))


def _too_large(tensors: Mapping[str, Tensor]) -> str | None:
    for name, value in tensors.items():
        real = value.is_floating_point()
        # Both ends: the size of the least integer is none.
        low, high = (float(f(value)) if value.numel() else 0.0 for f in (torch.min, torch.max))
        if max(-low, high) > (LARGEST if real else LARGEST_COUNT):
            return f"tensor {name!r} is out of range"
    return None


def _wide(value: Tensor) -> torch.dtype:
    return torch.float64 if value.is_floating_point() else value.dtype
