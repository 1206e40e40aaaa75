"""The way of the meta-parameters from the server to the clients: server half and client half."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from flwr.app import ArrayRecord, Message

from bayfed.errors import FederationError
from bayfed.seeds import stream
from strategies.coding import quantise, restore
from strategies.flat import cut, flat, sizes
from strategies.held import Held, given
from strategies.outer import split
from strategies.schema import mismatch
from strategies.server_optimizers import moved_of
from strategies.task import Params
from strategies.wire import CHANGE, Member, arrays_of, pack

BASE, ROUND = "base/", "round"


class Downlink:
    r"""Sends, to who has the last ones, a rounded change instead of the parameters.

    .. math:: \tilde\theta_t = \tilde\theta_{t-1} + Q(\theta_t - \tilde\theta_{t-1})

    :math:`\theta_t` are the server's parameters and :math:`\tilde\theta_t` those that every client
    of round t trains from. What Q rounds away is part of the next change, so it does not add up.
    A client that did not answer in round t - 1 is sent :math:`\tilde\theta_t` itself, which is the
    same to the last bit, or its digest where it has that (:class:`~strategies.held.Held`), as
    in the first round.

    Source: Tang et al., DoubleSqueeze, 2019, Algorithm 1, server side.

    Args:
        bits: Of a coordinate of the change; 32 = the parameters are sent as they are.
        rates: Learning-rate multipliers by prefix; what the server does not move does not change.
        seed: Of the experiment.
    """

    def __init__(
        self, bits: int = 32, rates: Mapping[str, float] | None = None, seed: int = 0
    ) -> None:
        self._bits, self._rates, self._seed = bits, rates or {}, seed
        self._base: Params = {}
        self._change: Params = {}
        self._round = 0
        self._asked: dict[str, int] = {}
        self._holders: dict[str, int] = {}
        self.held = Held(bits < 32)

    @property
    def memory(self) -> Params:
        """What :meth:`restore` needs."""
        return {f"{BASE}{name}": tensor for name, tensor in self._base.items()}

    def restore(self, memory: Params) -> None:
        """Go on where :attr:`memory` was; nobody is taken to have anything."""
        self._base, self._holders = split(memory, BASE)[0], {}

    def prepare(self, theta: Params, number: int) -> Params:
        """Return what the clients of round ``number`` train from."""
        if self._bits == 32:
            return theta
        if not self._base:
            self._base, self._change = dict(theta), {}
            self._round, self._holders = number, {}
            return self._base
        moved = moved_of(theta, self._rates)
        vector = flat(moved) - flat({name: self._base[name] for name in moved})
        random = stream(self._seed, "downlink", number)
        codes, scales = quantise(vector, sizes(moved), self._bits, random)
        self._change = {"codes": torch.from_numpy(codes), "scales": torch.from_numpy(scales)}
        self._base = _changed(self._base, self._change, self._bits, self._rates)
        self._round = number
        return self._base

    def records(self, member: Member, full: ArrayRecord) -> dict[str, ArrayRecord]:
        """Return what ``member`` is sent: ``full``, or the change where it has the last ones."""
        self._asked[member.name] = member.node
        if self._change and self._holders.get(member.name) == member.node:
            return {CHANGE: pack(self._change)}
        return self.held.records(member, full)

    def answered(self, names: set[str]) -> None:
        """Take note of who has answered the round, and hence has its parameters.

        A node that is started anew afterwards has nothing.
        """
        self._holders = {name: node for name, node in self._asked.items() if name in names}


def receive(
    message: Message,
    memory: Params,
    bits: int,
    rates: Mapping[str, float],
    number: int,
    held: tuple[Params, Callable[[], Params]] = ({}, dict),
) -> tuple[Params, Params]:
    """Return the parameters behind ``message`` and what the client keeps for the next one.

    Args:
        message: To the client.
        memory: What it kept.
        bits: Of a coordinate of a change.
        rates: As the server's.
        number: Of the round.
        held: What :func:`~strategies.held.given` takes besides.

    Raises:
        FederationError: they are a change of parameters that the client does not have.
    """
    theta = given(message, *held)
    if change := arrays_of(message, CHANGE):
        base, other = split(memory, BASE)
        known = int(other.get(ROUND, torch.tensor(-1)))
        if known == number:  # a secure sum is tried once more: the change is in them
            return base, memory
        if known != number - 1:
            raise FederationError(f"the parameters before round {number} are not here")
        try:
            theta = _changed(base, change, bits, rates)
        except (KeyError, ValueError) as error:
            raise FederationError(
                f"the change of the parameters cannot be read: {error}"
            ) from error
    if bits == 32:
        return theta, {}
    kept = {f"{BASE}{name}": tensor for name, tensor in theta.items()}
    return theta, {**kept, ROUND: torch.tensor(number)}


def _changed(base: Params, change: Params, bits: int, rates: Mapping[str, float]) -> Params:
    moved = moved_of(base, rates)
    vector = restore(change["codes"].numpy(), change["scales"].numpy(), sizes(moved), bits)
    steps = cut(vector, moved)
    if reason := mismatch(steps, moved):
        raise ValueError(reason)
    return {name: value + steps[name] if name in steps else value for name, value in base.items()}
