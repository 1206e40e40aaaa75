"""Sums over clients of statistics that add up exactly."""

from __future__ import annotations

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


def total(replies: Replies) -> dict[str, Tensor]:
    """Return the sum of the replies' tensors in the order of the clients, in float64 where real.

    Clients that hold nothing to add reply with no tensors and are passed over.

    Raises:
        FederationError: two clients' tensors differ in names, shapes or types.
    """
    named = [(member.name, arrays_of(reply)) for member, reply in replies.good.items()]
    named = [(name, tensors) for name, tensors in named if tensors]
    if not named:
        return {}
    _, template = named[0]
    sums = {key: torch.zeros_like(value, dtype=_wide(value)) for key, value in template.items()}
    for name, tensors in named:
        if reason := mismatch(tensors, template):
            raise FederationError(f"{replies.phase}: {name}: {reason}")
        sums = {key: value + tensors[key] for key, value in sums.items()}
    return {key: value.to(template[key]) for key, value in sums.items()}


def _wide(value: Tensor) -> torch.dtype:
    return torch.float64 if value.is_floating_point() else value.dtype
