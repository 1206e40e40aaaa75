"""What releases under Gaussian noise tell, as epsilon at a delta."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from math import sqrt
from typing import Any, Literal

from bayfed.errors import ConfigError

Adjacency = Literal["replace-one", "add-or-remove"]
SENSITIVITY: dict[Adjacency, float] = {"replace-one": 2.0, "add-or-remove": 1.0}
"""How far the sum of vectors of norm 1 moves: one is replaced by its opposite, or is missing."""


@dataclass(frozen=True)
class Releases:
    r"""Noised sums over clients: T of samples, and S of everybody.

    .. math:: M_t = \sum_{c \in B_t} g_{tc} + \mathcal N(0, (z C)^2 I), \quad
              \lVert g_{tc} \rVert \le C

    The sum moves by at most C where a client is added or removed, and by at most 2 C where its data
    are replaced by others, hence the noise is z or z / 2 times the sensitivity. A fixed number of
    clients drawn without replacement amplifies the promise against replacement (Wang, Balle and
    Kasiviswanathan, Subsampled Renyi Differential Privacy, 2019, theorem 27), each client drawn on
    its own that against adding or removing (Mironov, Talwar and Zhang, Renyi Differential Privacy
    of the Sampled Gaussian Mechanism, 2019); neither holds against who sees who was drawn. T
    releases of everybody are exactly one with the noise :math:`z / \sqrt T` (Balle and Wang,
    Improving the Gaussian Mechanism, 2018, theorem 8).

    Attributes:
        noise: z.
        rounds: T.
        everybody: S.
        adjacency: What is compared.
        sampled: Clients of a round, on average.
        population: N, all clients.

    >>> promise = Releases(noise=8.0, rounds=4)
    >>> round(promise.epsilon(1e-3), 2)  # like one release with 8 / sqrt(4) / 2 = 2
    1.35
    """

    noise: float
    rounds: int
    everybody: int = 0
    adjacency: Adjacency = "replace-one"
    sampled: float = 1.0
    population: int = 1

    def epsilon(self, delta: float) -> float:
        """Return the least epsilon that is shown at ``delta``.

        Raises:
            ConfigError: the library that counts is not installed.
        """
        return _epsilon(self, delta)


@lru_cache(maxsize=4096)
def _epsilon(releases: Releases, delta: float) -> float:
    multiplier = releases.noise / SENSITIVITY[releases.adjacency]
    if releases.rounds + releases.everybody == 0:
        return 0.0
    plain = gaussian_epsilon(multiplier / sqrt(releases.rounds + releases.everybody), delta)
    if releases.sampled >= releases.population or not releases.rounds:
        return plain
    library = _library()
    once = library.GaussianDpEvent(multiplier)
    if releases.adjacency == "replace-one":
        relation = library.NeighboringRelation.REPLACE_ONE
        drawn = library.SampledWithoutReplacementDpEvent(
            releases.population, int(releases.sampled), once
        )
    else:
        relation = library.NeighboringRelation.ADD_OR_REMOVE_ONE
        drawn = library.PoissonSampledDpEvent(releases.sampled / releases.population, once)
    accountant = library.rdp.RdpAccountant(neighboring_relation=relation)
    accountant.compose(drawn, releases.rounds)
    if releases.everybody:
        accountant.compose(once, releases.everybody)
    # Both hold; a bound of moments is the looser one where nearly everybody is drawn.
    return min(plain, float(accountant.get_epsilon(delta)))


def gaussian_epsilon(multiplier: float, delta: float) -> float:
    r"""Return epsilon of one Gaussian release with noise ``multiplier`` times its sensitivity.

    .. math:: \delta = \Phi\bigl(\tfrac{1}{2 m} - \varepsilon m\bigr)
              - e^{\varepsilon} \Phi\bigl(-\tfrac{1}{2 m} - \varepsilon m\bigr)

    Source: Balle and Wang, 2018, theorem 8.

    Raises:
        ConfigError: the library that counts is not installed.
    """
    return float(_library().get_epsilon_gaussian(multiplier, delta))


def affordable(epsilon: Callable[[int], float], budget: float | None, most: int) -> int:
    """Return how many of ``most`` rounds stay within ``budget``; epsilon rises with the rounds.

    >>> affordable(lambda rounds: float(rounds), 2.5, 10)
    2
    """
    if budget is None:
        return most
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if epsilon(middle) <= budget else (low, middle - 1)
    return low


def _library() -> Any:
    try:
        return import_module("dp_accounting")
    except ImportError as error:
        raise ConfigError(
            "federation.privacy: dp-accounting is missing; pip install 'bayfed[federation]'"
        ) from error
