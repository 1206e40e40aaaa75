"""What each check of the theory asks, and when it has passed: all that could be tuned.

Rates are shares of 1/L, or of :attr:`~experiments.study.subject.Subject.unit` where that is said.
No check is passed where a run diverges. The numbers were chosen while looking at seed 0: who
changes one has to ask seeds that nobody has looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ROUNDING = 1e-20
"""Squared norms below are rounding errors: a run has settled, and no line is fitted to them."""
ATTEMPTS = 4
"""Paths of full gradients, each with the largest L that the one before has met."""
EVALUATIONS = 300
"""Of F, in the search for its least value."""
PRODUCTS = 12
"""Of the Hessian with a vector, in the search for its largest eigenvalue."""


@dataclass(frozen=True)
class Deterministic:
    """FedSGD with full gradients, eta = 1/L.

    Attributes:
        rounds: At most.
        slope: The interval of the slope reaches this or below.
    """

    rounds: int = 300
    slope: float = -1.0


@dataclass(frozen=True)
class Stochastic:
    """FedSGD on batches of one episode, a run for each T.

    Attributes:
        lengths: T, rising.
        repeats: Runs of each.
        share: eta L of the shortest; eta falls like 1/sqrt(T).
        slope: The interval of the slope reaches this or below.
    """

    lengths: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)
    repeats: int = 5
    share: float = 1.0
    slope: float = -0.5


@dataclass(frozen=True)
class Clients:
    """FedSGD on batches of one episode from the least F, for several N.

    Attributes:
        numbers: N.
        shares: eta L, falling; the verdict is of the last.
        rounds: For each of them.
        repeats: Runs of each N and rate.
        slope: The interval of the slope holds this.
        without: And lies below this.
    """

    numbers: tuple[int, ...] = (1, 2, 4, 8, 16)
    shares: tuple[float, ...] = (0.5, 0.1)
    rounds: tuple[int, ...] = (250, 1250)
    repeats: int = 4
    slope: float = -1.0
    without: float = -0.5


@dataclass(frozen=True)
class FirstOrder:
    """Per-FedAvg with full gradients, by three orders of its gradient.

    Attributes:
        alphas: In units, rising.
        fitted: Of those the first are fitted.
        rounds: Of each order.
        slope: The slope is this,
        within: up to this.
        gap: The end of the exact and the Hessian-free order, as a share of the first order's, is
            less at every alpha.
    """

    alphas: tuple[float, ...] = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
    fitted: int = 4
    rounds: int = 120
    slope: float = 2.0
    within: float = 0.1
    gap: float = 1e-6


@dataclass(frozen=True)
class Drift:
    """FedAvg and SCAFFOLD with K full local gradients.

    Attributes:
        rate: eta_l, in units.
        counts: K, 1 the first of them.
        rounds: Of K local steps: the first plus the second over K.
        removed: What SCAFFOLD leaves of drift and floor is less.
    """

    rate: float = 0.1
    counts: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    rounds: tuple[int, int] = (100, 400)
    removed: float = 1e-4


@dataclass(frozen=True)
class Inner:
    """FedSGD with full gradients through n inner steps, on the smooth problem alone.

    Attributes:
        counts: n, 1 the first of them.
        alpha: The inner rate at n = 1.
        rounds: At most.
        factor: At a constant rate the curvature grows by more,
        unsettled: and the last run ends here or above.
        settled: At alpha / n every run ends below.
    """

    counts: tuple[int, ...] = (1, 2, 4, 8, 16)
    alpha: float = 0.5
    rounds: int = 150
    factor: float = 100.0
    unsettled: float = 1e-3
    settled: float = 1e-6


@dataclass(frozen=True)
class Rules:
    """Those of all checks.

    Attributes:
        deterministic: Of that check,
        stochastic: of that one,
        clients: of that one,
        first_order: of that one,
        drift: of that one,
        inner: and of that one.
        every: F is looked at in every so many rounds of ``clients``, ``first_order``, ``drift``.
        looks: Points of a run at which L and sigma^2 are asked for; None = all.
    """

    deterministic: Deterministic = field(default_factory=Deterministic)
    stochastic: Stochastic = field(default_factory=Stochastic)
    clients: Clients = field(default_factory=Clients)
    first_order: FirstOrder = field(default_factory=FirstOrder)
    drift: Drift = field(default_factory=Drift)
    inner: Inner = field(default_factory=Inner)
    every: int = 1
    looks: int | None = None


SMOOTH = Rules()
SITES = Rules(
    Deterministic(rounds=150),
    Stochastic(lengths=(8, 16, 32, 64, 128), repeats=2, share=0.5),
    Clients(numbers=(1, 3, 9), shares=(0.1, 0.02), rounds=(100, 100), repeats=3),
    FirstOrder(alphas=(0.08, 0.16, 0.32), fitted=3, rounds=21, gap=0.1),
    Drift(counts=(1, 2, 4, 8), rounds=(10, 60), removed=0.1),
    every=4,
    looks=3,
)
