"""Sums over clients of statistics that add up exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from flwr.app import Message
from torch import Tensor

from bayfed.errors import FederationError
from server.exchange import Replies
from strategies.schema import mismatch
from strategies.wire import arrays_of


def refusal(reply: Message) -> str | None:
    """Return why the tensors in ``reply`` must not be added, or ``None``."""
    try:
        tensors = arrays_of(reply)
    except FederationError as error:
        return str(error)
    return mismatch(tensors, tensors)


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


def total(
    replies: Replies, bounded: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
) -> Total:
    """Return the sum of the replies' tensors in the order of the clients, in float64 where real.

    Clients that hold nothing to add reply with no tensors and are passed over.

    Args:
        replies: Of the clients.
        bounded: Makes what is added of what a client has sent.

    Raises:
        FederationError: two clients' tensors differ in names, shapes or types.
    """
    named = [(member.name, arrays_of(reply)) for member, reply in replies.good.items()]
    named = [(name, tensors) for name, tensors in named if tensors]
    if not named:
        return Total({}, 0, [replies])
    _, template = named[0]
    sums = {key: torch.zeros_like(value, dtype=_wide(value)) for key, value in template.items()}
    for name, tensors in named:
        if reason := mismatch(tensors, template):
            raise FederationError(f"{replies.phase}: {name}: {reason}")
        own = bounded(tensors)
        sums = {key: value + own[key] for key, value in sums.items()}
    found = {key: value.to(template[key]) for key, value in sums.items()}
    return Total(found, len(named), [replies])


def _wide(value: Tensor) -> torch.dtype:
    return torch.float64 if value.is_floating_point() else value.dtype
