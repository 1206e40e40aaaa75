"""Differential privacy of clients: client half and server half of the noised mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import torch  # noqa: F401  # doctest

from bayfed.config import Experiment
from bayfed.errors import FederationError
from strategies.privacy.accountant import Adjacency
from strategies.privacy.noise import noised
from strategies.task import Params, clipped


@dataclass(frozen=True)
class ClientLevel:
    r"""The mean of clipped updates with Gaussian noise.

    .. math::
        \bar g = \frac1n \Bigl(\sum_{c} g_c \min(1, C / \lVert g_c \rVert) + z C\, \xi\Bigr),
        \quad \xi \sim \mathcal N(0, I)

    All clients weigh the same, and n is the number that a round is planned with, not the number
    that answered: a client that is missing, or whose update is refused, adds nothing, and no other
    one weighs more for it. The sum then moves by at most C where a client is added or removed, and
    by at most 2 C where its data are replaced. The server clips what it has decoded, so that the
    bound does not depend on a client's honesty, nor on what rounding or an error that is fed back
    do to a norm.

    Where clients add the noise, each adds :math:`z C / \sqrt m` and m or more of them answer: the
    sum of their updates, which is all that a server behind secure aggregation sees, has at least
    the noise above. Of m clients k that work together know their own shares, which leaves
    :math:`z \sqrt{1 - k / m}`.

    Source: McMahan et al., Learning Differentially Private Recurrent Language Models, 2018,
    algorithm 1; shares: Kairouz, Liu and Steinke, The Distributed Discrete Gaussian Mechanism,
    2021, section 1.

    Attributes:
        clip: C.
        noise: z.
        fraction: Of the clients that a round is planned with.
        adjacency: Also how they are drawn.
        shares: m, where the clients add the noise.
        seed: Of the experiment, for a run that can be repeated.

    >>> private = ClientLevel(clip=1.0, noise=1e-9, seed=0)
    >>> updates = [{"w": torch.tensor([3.0])}, {"w": torch.tensor([0.5])}]
    >>> private.mean(updates, 3, frozenset({"w"}), 1)["w"]  # (1 + 0.5 + 0) / 3
    tensor([0.5000])
    """

    clip: float
    noise: float
    fraction: float = 1.0
    adjacency: Adjacency = "replace-one"
    shares: int | None = None
    seed: int | None = None

    @classmethod
    def of(cls, experiment: Experiment) -> ClientLevel | None:
        """Return what ``experiment`` asks for, None where it does not hide clients."""
        federation = experiment.federation
        privacy, clip = federation.privacy, federation.uplink.clip
        if privacy.level != "client" or privacy.noise is None or clip is None:
            return None
        return cls(
            clip,
            privacy.noise,
            federation.fraction,
            privacy.adjacency,
            privacy.shares,
            experiment.seed if privacy.reproducible else None,
        )

    def planned(self, population: int) -> float:
        """Return n, the clients that a round is planned with, of all that there are.

        >>> ClientLevel(1.0, 1.0, 0.3).planned(8)
        3
        """
        if self.adjacency == "add-or-remove":
            return self.fraction * population
        return max(1, ceil(self.fraction * population))

    def share(self, update: Params, names: frozenset[str], number: int, client: str) -> Params:
        """Return a client's clipped update with its share of the noise, where clients add it.

        Args:
            update: What the client would send.
            names: Of the tensors that the server moves.
            number: Of the round.
            client: Its name.
        """
        if self.shares is None:
            return update
        deviation = self.noise * self.clip / sqrt(self.shares)
        return noised(
            clipped(update, self.clip), deviation, names, ("share", number, client), self.seed
        )

    def mean(
        self, updates: Sequence[Params], population: int, names: frozenset[str], number: int
    ) -> Params:
        """Return the mean of a round.

        Args:
            updates: Of those who answered; with shares of the noise in them, or without.
            population: All clients that train.
            names: Of the tensors that the server moves.
            number: Of the round.

        Raises:
            FederationError: fewer answered than bear the noise.
        """
        if self.shares is not None and len(updates) < self.shares:
            raise FederationError(
                f"round {number}: {len(updates)} updates bear less noise than "
                f"federation.privacy.shares: {self.shares}"
            )
        if self.shares is None:
            updates = [clipped(update, self.clip) for update in updates]
        total = {
            name: sum((u[name].double() for u in updates[1:]), first.double()).to(first)
            for name, first in updates[0].items()
        }
        return self.noised_mean(total, population, names, number)

    def noised_mean(
        self, total: Params, population: int, names: frozenset[str], number: int
    ) -> Params:
        """Return the mean behind the sum of clipped updates, such as a secure sum."""
        if self.shares is None:
            deviation = self.noise * self.clip
            total = noised(total, deviation, names, ("sum", number), self.seed)
        planned = self.planned(population)
        return {name: value / planned for name, value in total.items()}
