"""Hostile clients: the app of an honest one, bent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from flwr.app import Context, Message, RecordDict

from bayfed.episodes import Pools
from clients.app import answer, app, trained
from clients.factory import Factory
from clients.session import Session
from experiments.attacks.poison import backdoored, flipped
from strategies.local import scaled
from strategies.task import Params
from strategies.wire import ARRAYS, CONFIG, arrays_of, pack

Forgery = Callable[[Params], Params]
LARGE = 100.0
"""Factor of a scaled update."""
FORGERIES: dict[str, Forgery] = {
    "sign flip": lambda update: scaled(update, -1.0),
    "scaled": lambda update: scaled(update, -LARGE),
    "NaN": lambda update: {n: torch.full_like(tensor, torch.nan) for n, tensor in update.items()},
}
"""What becomes of an update."""
POISONS: dict[str, Callable[[Pools], Pools]] = {"label flip": flipped, "backdoor": backdoored}
"""What becomes of the data behind it."""


@dataclass
class Hostile:
    """The ClientApp of a federation in which some clients attack.

    Attributes:
        attack: One of ``FORGERIES`` or ``POISONS``.
        clients: Those who do.
    """

    attack: str
    clients: frozenset[int]
    _factories: dict[int, Factory] = field(default_factory=dict)

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer as an honest client does, but for the updates of hostile ones."""
        client = message.content.config_records[CONFIG]["client"]
        if message.metadata.message_type != "train" or client not in self.clients:
            return app(message, context)
        if self.attack in POISONS:
            return answer(message, context, self._poisoned(context))
        reply = app(message, context)
        if not reply.has_error() and ARRAYS in reply.content:
            reply.content[ARRAYS] = pack(FORGERIES[self.attack](arrays_of(reply)))
        return reply

    def _poisoned(self, context: Context) -> Callable[[Session, Message], RecordDict]:
        def work(session: Session, message: Message) -> RecordDict:
            if session.client not in self._factories:
                poison = POISONS[self.attack]
                opened = Factory.open(session.experiment, session.client, poison)
                self._factories[session.client] = opened
            return trained(session, self._factories[session.client], message, context)

        return work
