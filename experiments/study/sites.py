r"""Real sites as a subject of the checks: constants are estimated, assumptions may fail.

F is the mean over sites of the meta-loss of frozen episodes, so F and its gradient are exact sums
in float64, as for the smooth problem, and F >= 0. What is not known is estimated: L by power
iteration at points of the paths, :math:`\Delta` by the least F that any run has seen, which makes
the bounds stricter than the true one would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from bayfed.episodes.episode import EpisodeBatch, stack
from bayfed.methods import TrainableMethod
from bayfed.seeds import stream
from experiments.study.descent import descend_far
from experiments.study.frozen import Frozen
from experiments.study.rules import SITES, Rules
from experiments.study.subject import Objective, Tasks
from experiments.study.sums import AfterStep, Sum
from strategies.task import Params

EVERYWHERE = (
    "F is bounded below by 0; Delta is the fall to the least F seen, which is not larger than the "
    "true one; L is the largest curvature found by power iteration at some points of the paths, no "
    "bound on it between them. With a top-k mean F has kinks where tokens change places, and with "
    "the contrastive term, whose embeddings are of the top tokens, it jumps there: no L exists."
)


@dataclass(frozen=True, eq=False)
class SiteTask:
    """The task of a site on its frozen episodes.

    Attributes:
        method: Whose loss it is.
        episodes: M of them.
        name: Keys the batches.
        seed: Of the batches.
        noise: Of the batches too; None = a batch is all episodes.
    """

    method: TrainableMethod
    episodes: EpisodeBatch
    name: str
    seed: int
    noise: int | None = None

    def batch(self, round: int, step: int) -> EpisodeBatch:  # noqa: A002
        """Return one episode, drawn with replacement, or all."""
        if self.noise is None:
            return self.episodes
        random = stream(self.seed, "theory", "batch", self.noise, self.name, round, step)
        chosen = int(random.integers(len(self.episodes)))
        return self.episodes[chosen : chosen + 1]

    def loss(self, params: Params, batch: EpisodeBatch) -> tuple[Tensor, Params]:
        """Return the mean meta-loss of the batch."""
        return self.method.loss(params, batch)


@dataclass(frozen=True, eq=False)
class Sites:
    """Frozen episodes of sites as a subject.

    Attributes:
        frozen: The episodes and the method.
        title: Of the summary.
        rules: What is asked, and what counts as passed.
        pooled: Whether all clients draw from the episodes of all sites.
        alpha: Of an inner step on the client's own loss; 0 = none.
        at_bottom: Where F is least as far as is known, where somebody has looked already.
    """

    frozen: Frozen
    title: str = "Theory checks on real sites, float64"
    rules: Rules = SITES
    pooled: bool = False
    alpha: float = 0.0
    at_bottom: Params | None = field(default=None, repr=False)
    holds: ClassVar[Mapping[str, str]] = {
        "deterministic": EVERYWHERE,
        "stochastic": EVERYWHERE + " Batches are single episodes of the frozen ones, drawn with "
        "replacement: unbiased, independent, of finite variance; sigma^2 is the largest seen.",
        "clients": EVERYWHERE
        + " All clients draw from the episodes of all sites, so that F is the "
        "same for every N. Runs start at the least F that was found, which is no minimum exactly.",
        "first_order": EVERYWHERE + " Each client adapts to its own loss, full gradients; rounds "
        "are too few to settle, runs start at the least F that was found. L of F after the step "
        "is taken as L (1 + alpha L)^2, which leaves out the third derivative.",
        "drift": EVERYWHERE + " Full gradients. Runs start at the least F that was found.",
    }

    @property
    def rates(self) -> Mapping[str, float]:
        """Multipliers of the server."""
        return self.frozen.rates

    @cached_property
    def _groups(self) -> list[EpisodeBatch]:
        every = list(self.frozen.episodes.values())
        return [stack(every)] if self.pooled else every

    @cached_property
    def _plain(self) -> Sum:
        return Sum(self.frozen, self._groups)

    @cached_property
    def objective(self) -> Objective:
        """F."""
        if not self.alpha:
            return self._plain
        return AfterStep(self.frozen, self._groups, self.alpha)

    @cached_property
    def unit(self) -> float:
        """Of inner and local rates: 1/L at the least F that was found."""
        return 1 / self._plain.curvature(self.bottom())

    def start(self) -> Params:
        """Return the meta-parameters of round 0."""
        return self.frozen.theta

    def bottom(self) -> Params:
        """Return the least F that L-BFGS has met."""
        return self._least if self.at_bottom is None else self.at_bottom

    @cached_property
    def _least(self) -> Params:
        return descend_far(self._plain, self.frozen.theta, self.frozen.rates)

    def approach(self) -> Params:
        """Return the bottom: rounds are dear."""
        return self.bottom()

    def delta(self, theta: Params, seen: float) -> float:
        """Return F(theta) - the least F seen."""
        least = min(seen, self.objective.value(self.bottom()))
        return self.objective.value(theta) - least

    def smoothness(self, points: Sequence[Params]) -> float:
        """Return the largest curvature at these points."""
        L = max(self._plain.curvature(theta) for theta in points)
        return L * (1 + self.alpha * L) ** 2 if self.alpha else L

    def exactly(self) -> Tasks:
        """Return the clients' tasks with full gradients."""
        return {name: self._task(own, name) for name, own in self.frozen.episodes.items()}

    def noisy(self, noise: int, clients: int | None = None) -> Tasks:
        """Return them with batches of one episode."""
        if not self.pooled:
            episodes = self.frozen.episodes.items()
            return {name: self._task(own, name, noise) for name, own in episodes}
        names = [f"c{i:03d}" for i in range(clients or len(self.frozen.episodes))]
        return {name: self._task(self._groups[0], name, noise) for name in names}

    def _task(self, episodes: EpisodeBatch, name: str, noise: int | None = None) -> SiteTask:
        return SiteTask(self.frozen.method, episodes, name, self.frozen.seed, noise)

    def alike(self) -> Sites:
        """Return the problem whose clients draw from the episodes of all sites; F is the same."""
        return replace(self, pooled=True, at_bottom=self.bottom())

    def adapted(self, alpha: float) -> Sites:
        """Return the problem after one step of each client on its own loss."""
        return replace(self, alpha=alpha, at_bottom=self.bottom())
