r"""IQR refinement around any method: support images with outlying scores are left out.

A cycle adapts to the images kept so far, scores each of them by the others, and rejects those
above the fence

.. math:: \tau = Q_3 + w (Q_3 - Q_1)

of these scores, :math:`Q_1` and :math:`Q_3` their quartiles. The fence is thus a threshold that
every cycle recomputes from the scores of the images that are still kept. Cycles end when
nothing is rejected, and two images at least are kept. What is left is adapted to from the same
start, not from the weights before, which have seen what was rejected.

A quarter of the images at most can lie above this fence, and outliers that are as many as that
move it. With ``quartiles: lower`` the upper half is taken to mirror the lower one, so that
:math:`Q_3 = 2 Q_2 - Q_1`: the same fence for symmetric scores, and one that stands up to outliers
of nearly half the images.

Source: arXiv 2503.01569 for cycles of scoring, rejection and re-adaptation; Tukey 1977,
"Exploratory Data Analysis", for the fence.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from bayfed.config import Refine
from bayfed.episodes.episode import EpisodeBatch
from bayfed.features import Params
from bayfed.methods.base import Method, Scores, TrainableMethod

FEWEST = 2
"""Images that are kept: one has no other to score it by."""


class Kept(NamedTuple):
    """A detector adapted to what was kept.

    Attributes:
        adapted: Of the method inside.
        rejected: ``(k,)`` which support images were left out.
        scores: Scores of those kept, each by the others; empty for a single image.
        fence: The last threshold; infinite where there was none.
    """

    adapted: Any
    rejected: Tensor
    scores: Tensor
    fence: float


def fence_of(scores: Tensor, whisker: float, mirrored: bool = False) -> float:
    """Return the third quartile and ``whisker`` interquartile ranges more.

    Args:
        scores: ``(n,)``; quartiles between two of them are interpolated.
        whisker: :math:`w`.
        mirrored: Whether the third quartile is as far from the median as the first.

    >>> fence_of(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), 1.5)
    7.0
    >>> fence_of(torch.tensor([1.0, 2.0, 3.0, 40.0, 50.0]), 1.5, mirrored=True)
    7.0
    """
    levels = torch.tensor([0.25, 0.5, 0.75], dtype=torch.double)
    low, middle, high = torch.quantile(scores.double(), levels)
    if mirrored:
        high = 2 * middle - low
    return float(high + whisker * (high - low))


class Refined:
    """A method with its refinement; see the module.

    Args:
        method: What adapts and scores.
        settings: Cycles and whisker.
        variant: What sets the whole apart from the method's usual settings.
    """

    def __init__(self, method: Method, settings: Refine, variant: str | None) -> None:
        self.inside = method
        self.name, self.variant = method.name, variant
        self.localises, self.poses = method.localises, method.poses
        self._settings = settings

    def initial(self, seed: int, statistics: Params | None = None) -> Params:
        """Return the parameters of round 0; see the method inside."""
        return self.inside.initial(seed, statistics)

    def adapt(self, params: Params, support: Tensor) -> Kept:
        """Adapt to ``(k * poses, ...)`` trunk outputs, in cycles of scoring and rejection."""
        images = support.reshape(-1, len(self.poses), *support.shape[1:])
        kept, fence = torch.arange(len(images)), torch.inf
        adapted = self.inside.adapt(params, support)
        scores = self._scores(adapted, len(kept))
        settings = self._settings
        for _ in range(settings.cycles):
            if len(kept) <= FEWEST:
                break
            fence = fence_of(scores, settings.whisker, settings.quartiles == "lower")
            within = scores.double() <= fence
            if bool(within.all()) or int(within.sum()) < FEWEST:
                break
            kept = kept[within]
            adapted = self.inside.adapt(params, images[kept].flatten(0, 1))
            scores = self._scores(adapted, len(kept))
        rejected = torch.ones(len(images), dtype=torch.bool)
        rejected[kept] = False
        return Kept(adapted, rejected, scores, float(fence))

    def _scores(self, adapted: Any, number: int) -> Tensor:
        return self.inside.support_scores(adapted) if number > 1 else torch.zeros(0)

    def score(self, adapted: Kept, query: Tensor) -> Scores:
        """Score ``(q, ...)`` trunk outputs."""
        return self.inside.score(adapted.adapted, query)

    def support_scores(self, adapted: Kept) -> Tensor:
        """Return the scores of the kept support images, each by the others."""
        return adapted.scores

    def rejected(self, adapted: Any) -> Tensor:
        """Return ``(k,)`` which images of the support were left out."""
        kept: Kept = adapted
        return kept.rejected

    def size(self, adapted: Kept) -> int:
        """Return the bytes of the adapted detector beside the frozen backbone."""
        return self.inside.size(adapted.adapted)


class RefinedTrainable(Refined):
    """The refinement of a method with meta-parameters, which training moves as without it."""

    def __init__(self, method: TrainableMethod, settings: Refine, variant: str | None) -> None:
        super().__init__(method, settings, variant)
        self._learner = method

    def statistics(
        self, params: Params, support: Tensor, share: float = 1.0, limit: float | None = None
    ) -> Params:
        """Return what a ``share`` of a site adds to empirical Bayes."""
        return self._learner.statistics(params, support, share, limit)

    def loss(self, params: Params, batch: EpisodeBatch) -> tuple[Tensor, Params]:
        """Return the mean loss of the episodes, whose supports are good, and its parts."""
        return self._learner.loss(params, batch)


def refined(method: Method, settings: Refine, usual: Refine) -> Method:
    """Return ``method`` with its refinement, or itself where there are no cycles.

    Args:
        method: Of the experiment.
        settings: Of its refinement.
        usual: What the method is refined by where nothing else is said, for its variant.
    """
    changed = {True: "refined", False: "unrefined"}[settings.cycles > 0]
    names = [method.variant, None if settings == usual else changed]
    variant = "+".join(filter(None, names)) or None
    if not settings.cycles:
        method.variant = variant
        return method
    if isinstance(method, TrainableMethod):
        return RefinedTrainable(method, settings, variant)
    return Refined(method, settings, variant)
