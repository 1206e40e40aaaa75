"""Differential privacy of single images: the update of a client that hides each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Protocol

from bayfed.config import Experiment
from bayfed.errors import ConfigError, FederationError
from strategies.algorithm import Reply
from strategies.averaging import Averaging
from strategies.local import gradient_of, mean_of, plus, zeros
from strategies.privacy.accountant import SENSITIVITY, gaussian_epsilon
from strategies.privacy.noise import noised
from strategies.server_optimizers import moved_of
from strategies.task import LocalTask, Params, clipped


class CountedTask(LocalTask, Protocol):
    """A learning problem that knows which images it draws, without looking at them."""

    name: str

    @property
    def images(self) -> int:
        """The good images that are trained on."""

    def repeats(self, round: int) -> int:  # noqa: A002
        """Return the most episodes of a round in which one image takes part."""


@dataclass(frozen=True)
class ImageLevel:
    r"""A client's mean gradient over episodes, each clipped, with Gaussian noise.

    .. math::
        g = \frac1E \Bigl(\sum_{e=1}^{E} \nabla f(\theta; e) \min(1, C / \lVert \nabla f \rVert)
            + z C\, \xi\Bigr), \quad \xi \sim \mathcal N(0, I)

    Two factories are compared that differ in the content of one good image, and hence of all
    defects that are painted on it; which indices an episode draws depends on no content. If the
    image takes part in at most m episodes of the round, as support, query or ground of a painted
    defect, the mean moves by at most 2 C m / E. Rounds with :math:`m_1, m_2, \ldots` are together
    exactly one release with noise :math:`z / (2 \sqrt{\sum_t m_t^2})` times its sensitivity.
    Nothing is said of drawing the images at random, which would hide them further if nobody knew
    the seed.

    Sources: Abadi et al., Deep Learning with Differential Privacy, 2016, algorithm 1, with episodes
    in the place of examples; Dong, Roth and Su, Gaussian Differential Privacy, 2022, section 3.

    Attributes:
        clip: C.
        noise: z.
        delta: At which epsilon is told.
        budget: Largest epsilon.
        seed: Of the experiment, for a run that can be repeated.
    """

    clip: float
    noise: float
    delta: float
    budget: float | None = None
    seed: int | None = None

    @classmethod
    def of(cls, experiment: Experiment) -> ImageLevel | None:
        """Return what ``experiment`` asks for, None where it does not hide images."""
        privacy = experiment.federation.privacy
        if privacy.level != "image" or privacy.noise is None or privacy.clip is None:
            return None
        seed = experiment.seed if privacy.reproducible else None
        return cls(privacy.clip, privacy.noise, privacy.delta, privacy.epsilon, seed)

    def sensitivity(self, repeats: int, episodes: int) -> float:
        """Return 2 C m / E.

        >>> ImageLevel(clip=1.0, noise=1.0, delta=1e-5).sensitivity(repeats=3, episodes=12)
        0.5
        """
        return SENSITIVITY["replace-one"] * self.clip * repeats / episodes

    def epsilon(self, task: CountedTask, rounds: int) -> float:
        """Return epsilon after ``rounds`` rounds, as if the client took part in all of them.

        So a client needs no memory of what it sent, which it would lose where it is started anew.
        """
        squares = sum(task.repeats(number) ** 2 for number in range(1, rounds + 1))
        if not squares:
            return 0.0
        scale = SENSITIVITY["replace-one"] * sqrt(squares)
        return gaussian_epsilon(self.noise / scale, self.delta)

    def update(self, task: CountedTask, theta: Params, settings: Averaging, number: int) -> Reply:
        """Return the client half of a round; all episodes see the same parameters.

        Raises:
            ConfigError: delta is not below one in all images.
            FederationError: the budget would be passed.
        """
        if self.delta * task.images >= 1:
            raise ConfigError(
                f"federation.privacy.delta: {self.delta:g} is not below 1 / {task.images}, "
                f"one image in all of {task.name}"
            )
        spent, after = (self.epsilon(task, rounds) for rounds in (number, number + 1))
        if self.budget is not None and spent > self.budget:
            raise FederationError(
                f"round {number} would pass federation.privacy.epsilon: {self.budget:g} "
                f"with {spent:.3g}"
            )
        total, reports = self._sum(task, theta, settings, number)
        moved = frozenset(moved_of(theta, settings.rates))
        key = ("image", number, task.name)
        total = noised(total, self.noise * self.clip, moved, key, self.seed)
        mean = {name: value / len(reports) for name, value in total.items()}
        metrics = {**mean_of(reports), "epsilon": spent, "epsilon_next": after}
        return Reply(mean, len(reports), metrics)

    def _sum(
        self, task: LocalTask, theta: Params, settings: Averaging, number: int
    ) -> tuple[Params, list[Mapping[str, float]]]:
        total = zeros(theta)
        reports: list[Mapping[str, float]] = []
        for step in range(settings.local_steps):
            batch = task.batch(number, step)
            for i in range(len(batch)):
                episode = batch[i : i + 1]
                gradient, report = gradient_of(task.loss, theta, settings.rates, episode)
                total = plus(total, clipped(gradient, self.clip))
                reports.append(report)
        return total, reports
