"""What privacy asks of the rounds: how clients are drawn, what it has cost, when to stop."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from bayfed.config import Experiment
from bayfed.errors import ConfigError
from bayfed.seeds import stream
from server.diagnosis import unlikely_statistics
from server.exchange import Replies
from strategies.privacy.accountant import Releases, affordable
from strategies.privacy.clients import ClientLevel
from strategies.privacy.statistics import PARTS, PrivateStatistics
from strategies.wire import Member, metrics_of

log = logging.getLogger("bayfed.server")
FEWEST = 10
"""Clients of a round, on average, where each is drawn on its own; a round of none is no round."""
SPENT, NEXT, EACH = "epsilon", "epsilon_next", "epsilon_next_of"
"""Metrics of a client, and what the history calls the second by client."""


class Guard:
    """Keeps the promise of ``federation.privacy`` over the rounds of one run.

    What clients' privacy has cost is a function of the settings, the number of clients and that of
    the round alone; what images' has cost is told by each client. A client whose next update would
    pass the budget, in its own words, is not asked for it; the run ends where the quorum is lost.

    Args:
        experiment: Of the run.
        line: The last line of the history, where the run goes on.
    """

    def __init__(self, experiment: Experiment, line: dict[str, Any] | None = None) -> None:
        self._experiment, self._settings = experiment, experiment.federation.privacy
        self._clients = ClientLevel.of(experiment)
        self._statistics = PrivateStatistics.of(experiment)
        self._pools = experiment.method.pools_statistics
        self._population, self._last = 0, experiment.federation.rounds
        self._told = False
        self._spent = float((line or {}).get(SPENT) or 0.0)
        self._next = {str(k): float(v) for k, v in ((line or {}).get(EACH) or {}).items()}

    def enrol(self, members: Sequence[Member]) -> None:
        """Take note of who takes part.

        Raises:
            ConfigError: delta is too large for them, too few are drawn, or even one round would
                pass the budget.
        """
        self._population = sum(member.trains for member in members)
        if self._clients is None:
            return
        delta, budget = self._settings.delta, self._settings.epsilon
        if delta * self._population >= 1:
            raise ConfigError(
                f"federation.privacy.delta: {delta:g} is not below 1 / {self._population}, "
                "one client in all of them"
            )
        planned = self._clients.planned(self._population)
        shares = self._settings.shares
        if shares is not None and shares > planned:
            raise ConfigError(
                f"federation.privacy.shares: {shares} are to bear the noise, {planned:g} clients "
                "a round are drawn"
            )
        if self._draws_singly and planned < FEWEST:
            raise ConfigError(
                f"federation.fraction: {planned:g} clients a round are drawn on average, at least "
                f"{FEWEST} are needed with federation.privacy.adjacency: add-or-remove"
            )
        self._last = affordable(self._epsilon, budget, self._experiment.federation.rounds)
        if not self._last and self._experiment.federation.rounds:
            raise ConfigError(
                f"federation.privacy.epsilon: {budget:g} is passed by the first round, which "
                f"costs {self._epsilon(1):.3g}"
            )

    def cohort(self, members: Sequence[Member], number: int) -> list[Member] | None:
        """Return who is drawn for a round, None where nothing but the seed decides."""
        fraction = self._experiment.federation.fraction
        if self._clients is None or fraction == 1:
            return None
        if self._settings.reproducible and not self._draws_singly:
            return None
        seed = self._experiment.seed if self._settings.reproducible else secrets.randbits(128)
        random = stream(seed, "sampling", number)
        training = sorted(member for member in members if member.trains)
        if self._draws_singly:
            drawn = random.random(len(training)) < fraction
            return [member for member, taken in zip(training, drawn, strict=True) if taken]
        size = int(self._clients.planned(len(training)))
        return [training[i] for i in np.sort(random.permutation(len(training))[:size])]

    def allows(self, number: int) -> bool:
        """Tell whether a round stays within the budget, and say so where it does not."""
        budget = self._settings.epsilon
        quorum = math.ceil(self._experiment.federation.quorum * self._population)
        lost = self._over and self._population - len(self._over) < max(1, quorum)
        allowed = number <= self._last and not lost
        if not allowed and not self._told and number <= self._experiment.federation.rounds:
            self._told = True
            log.warning(
                "the run ends after round %d: the next would pass federation.privacy.epsilon: %s",
                number - 1,
                budget,
            )
        return allowed

    def note(self, replies: Replies) -> None:
        """Take note of what clients say that the privacy of their images has cost."""
        if self._settings.level != "image":
            return
        for member, reply in list(replies.good.items()):
            told = metrics_of(reply)
            spent, following = told.get(SPENT, 0.0), told.get(NEXT, 0.0)
            if not 0 <= spent <= following < math.inf:
                replies.refuse(member, f"its privacy has cost {spent:g}, and then {following:g}")
                continue
            self._spent, self._next[member.name] = max(self._spent, spent), following

    def over(self, members: Sequence[Member]) -> dict[str, str]:
        """Return whose next update would pass the budget, and that it would."""
        budget = self._settings.epsilon
        names = {member.name for member in members} & self._over
        return dict.fromkeys(sorted(names), f"would pass federation.privacy.epsilon: {budget}")

    def line(self, number: int) -> dict[str, Any]:
        """Return what the history says of privacy after a round."""
        if self._settings.level == "none":
            return {}
        if self._clients is not None:
            return {SPENT: self._epsilon(number), "delta": self._settings.delta}
        following = max(self._next.values(), default=0.0)
        told = {SPENT: self._spent, NEXT: following, EACH: dict(sorted(self._next.items()))}
        return told | {"delta": self._settings.delta}

    def unlikely(self, part: Mapping[str, Tensor]) -> str | None:
        """Return why a client's statistics cannot be that, or ``None``."""
        if self._statistics is None:
            return unlikely_statistics(part)
        return "they are not scaled" if part and part.keys() != PARTS else None

    def bounded(self, part: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a client's statistics within the norm that the promise rests on."""
        return part if self._statistics is None else self._statistics.bounded(part)

    def released(self, total: dict[str, Tensor], clients: int) -> dict[str, Tensor]:
        """Return the sums behind the total of what ``clients`` have sent, noised if they hide."""
        if self._statistics is None or not total:
            return total
        return self._statistics.release(total, clients)

    @property
    def _over(self) -> set[str]:
        budget = self._settings.epsilon
        return {name for name, e in self._next.items() if budget is not None and e > budget}

    @property
    def _draws_singly(self) -> bool:
        single = self._settings.adjacency == "add-or-remove"
        return single and self._experiment.federation.fraction < 1

    def _epsilon(self, rounds: int) -> float:
        if self._clients is None:
            return 0.0
        releases = Releases(
            self._clients.noise,
            rounds,
            int(self._pools),
            self._settings.adjacency,
            self._clients.planned(self._population),
            self._population,
        )
        return releases.epsilon(self._settings.delta)
