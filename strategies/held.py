"""Parameters that a client has already: their digest travels in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from flwr.app import ArrayRecord, Message

from bayfed.errors import FederationError
from bayfed.evaluation.checkpoint import digest
from strategies.task import Params
from strategies.wire import ARRAYS, HELD, Member, arrays_of, pack, unpack

_SHA256 = "sha256"


class Held:
    """What single clients hold, as far as the server knows; its half of :func:`given`.

    The parameters of round 0 are a function of the settings: a client makes its own, and tells
    their digest when it says what it has. Nobody is believed: the digest decides on either side,
    so that who tells a wrong one is sent the tensors or fails by itself.

    Args:
        used: Otherwise all clients are sent the tensors.
    """

    def __init__(self, used: bool = True) -> None:
        self._used = used
        self._last: dict[tuple[int, int], str] = {}
        self._named: tuple[ArrayRecord, str] | None = None

    def records(self, member: Member, full: ArrayRecord) -> dict[str, ArrayRecord]:
        """Return what ``member`` is sent: ``full``, or its digest where it has that."""
        if not self._used:
            return {ARRAYS: full}
        name = self._digest(full)
        if name not in (member.initial, self._last.get((member.client, member.node))):
            return {ARRAYS: full}
        return {HELD: pack({_SHA256: torch.frombuffer(bytearray.fromhex(name), dtype=torch.uint8)})}

    def answered(self, members: Iterable[Member], full: ArrayRecord) -> None:
        """Take note of who was shown ``full`` and has answered; a node that starts anew is another.

        Args:
            members: Who keep it until they are shown others.
            full: As it was given to :meth:`records`.
        """
        if self._used:
            name = self._digest(full)
            self._last |= {(member.client, member.node): name for member in members}

    def _digest(self, full: ArrayRecord) -> str:
        if self._named is None or self._named[0] is not full:
            self._named = full, digest(unpack(full))
        return self._named[1]


def given(message: Message, kept: Params, initial: Callable[[], Params]) -> Params:
    """Return the parameters that ``message`` carries or names.

    Args:
        message: To the client.
        kept: Those that it was shown the last time.
        initial: Makes those of round 0.

    Raises:
        FederationError: it names some that are not here.
    """
    if HELD not in message.content:
        return arrays_of(message)
    named = arrays_of(message, HELD).get(_SHA256, torch.zeros(0)).numpy().tobytes().hex()
    if kept and digest(kept) == named:
        return kept
    own = initial()
    if digest(own) != named:
        raise FederationError("the parameters that the server names by their digest are not here")
    return dict(sorted(own.items()))
