r"""BayPrAnoMeta on several views of a token: the stages of the backbone, and a wide layer.

Each view has its own prior, head and posterior. A score is a weighted sum of their surprises,
in nats per dimension, and so a product of tempered likelihoods:

.. math:: s = s_0 + w\, s_1, \qquad s_{ij} = s_{0,ij} + w\, s_{1,ij}

with :math:`w` a meta-parameter. A Gaussian over all channels at once has to estimate how the
views vary together, for which five images are too few; the sum assumes that they do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from bayfed.config import BayPrAnoMeta as Settings
from bayfed.episodes.episode import EpisodeBatch
from bayfed.features import Encoder, Params
from bayfed.features.part import PartTail
from bayfed.methods.base import BYTES, Method, Scores, Spread
from bayfed.methods.baypranometa import BayPrAnoMeta
from bayfed.methods.fitted import Adapted, Evidence, Fit, View
from bayfed.methods.scoring import log_odds
from bayfed.methods.tokens import device_of, episode_tokens
from bayfed.seeds import torch_stream

WIDE = "wide."
"""Before the names of the second view's parameters."""
WEIGHT = "views.weight"


class Fitted(NamedTuple):
    """Both views fitted to one product, and the meta-parameters of their sum."""

    params: Params
    views: tuple[Adapted, Adapted]


class Views:
    """BayPrAnoMeta on two views, behind the interface of one.

    Args:
        settings: ``method`` of the experiment.
        encoder: Gives the tail and the channels of each view.
    """

    name = "baypranometa"

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        self._settings = settings
        self._tail = encoder.tail
        ends = (0, *accumulate(encoder.views))
        self._parts = [PartTail(ends[i], ends[i + 1]) for i in range(2)]
        wide = settings.model_copy(update={"top_k": settings.wide.top_k})
        self._first = BayPrAnoMeta(settings, replace(encoder, tail=self._parts[0]))
        self._wide = BayPrAnoMeta(wide, replace(encoder, tail=self._parts[1]))
        self.poses, self.localises = self._first.poses, self._first.localises
        self.variant: str | None = "+".join(filter(None, (self._first.variant, "wide")))

    def initial(self, seed: int, statistics: Params | None = None) -> Params:
        """Return the meta-parameters of round 0; see :meth:`BayPrAnoMeta.initial`."""
        params = self._tail.initial(torch_stream(seed, "initial"))
        sums = statistics or {}
        params |= self._first.initial(seed, _own(sums) or None)
        params |= _named(self._wide.initial(seed, _wide(sums) or None))
        return params | {WEIGHT: torch.tensor(self._settings.wide.weight)}

    def statistics(self, params: Params, support: Tensor, share: float = 1.0) -> Params:
        """Return the additive statistics of ``(n, ...)`` normals, a ``share`` of a site's."""
        with torch.no_grad():
            tokens = self._tail(params, support.to(device_of(params)))
        first = self._first.statistics(params, tokens, share)
        return first | _named(self._wide.statistics(_wide(params), tokens, share))

    def loss(self, params: Params, batch: EpisodeBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the mean outer loss of the episodes, and its parts."""
        support = episode_tokens(self._tail, params, batch.support, batch.tokens)
        query = episode_tokens(self._tail, params, batch.query, batch.tokens)
        first, wide = self._split(support)
        fits = (self._first.fits(params, first), self._wide.fits(_wide(params), wide))
        episode = partial(self._episode_loss, params)
        losses, parts = vmap(episode)(fits, query, batch.labels, batch.masks)
        metrics = {name: float(value.detach().mean()) for name, value in parts.items()}
        return losses.mean(), metrics

    def _episode_loss(
        self, params: Params, fits: tuple[Fit, Fit], query: Tensor, labels: Tensor, masks: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        first, wide = fits
        part, other = self._split(query)
        found = self._wide.evidence(_wide(params), wide, other)
        beside = Evidence(
            params[WEIGHT] * (found.image - wide.support_scores.mean()),
            params[WEIGHT] * (found.tokens - wide.support_tokens),
        )
        return self._first.episode_loss(params, first, part, labels, masks, beside)

    @torch.no_grad()
    def adapt(self, params: Params, support: Tensor) -> Fitted:
        """Adapt to ``(k * poses, ...)`` trunk outputs of good images, the poses in a row."""
        tokens = self._tail(params, support.to(device_of(params)))
        first = self._first.adapt(params, tokens)
        return Fitted(params, (first, self._wide.adapt(_wide(params), tokens)))

    def score(self, adapted: Fitted, query: Tensor) -> Scores:
        """Score ``(q, ...)`` trunk outputs."""
        tokens = self._tail(adapted.params, query.to(device_of(adapted.params)))
        seen = self._seen(adapted, tokens)
        first, wide = (core.evidence(view.params, view.fit, part) for core, view, part in seen)
        spreads = [
            core.spread(view, part, found.tokens)
            for (core, view, part), found in zip(seen, (first, wide), strict=True)
        ]
        weight = adapted.params[WEIGHT]
        image = first.image + weight * wide.image
        each = first.tokens + weight * wide.tokens
        odds = log_odds(adapted.params, "score", image, self._support_scores(adapted).mean())
        return Scores(image.cpu(), each.cpu(), odds.cpu(), None, _summed(spreads, weight.cpu()))

    def seen(self, adapted: Fitted, query: Tensor) -> list[View]:
        """Return what both laws see of ``(q, ...)`` trunk outputs."""
        tokens = self._tail(adapted.params, query.to(device_of(adapted.params)))
        (first,) = self._first.seen(adapted.views[0], tokens)
        (wide,) = self._wide.seen(adapted.views[1], tokens)
        return [first, wide._replace(weight=float(adapted.params[WEIGHT]))]

    def certain(self, adapted: Fitted) -> Fitted:
        """Return the detector as if its support had told both laws exactly."""
        first, wide = adapted.views
        views = (self._first.certain(first), self._wide.certain(wide))
        return adapted._replace(views=views)

    def level(self, adapted: Fitted, fpr: float) -> float | None:
        """Return None: two views have no common law."""
        del adapted, fpr
        return None

    def tensors(self, adapted: Fitted) -> Params:
        """Return what both views have made of the support."""
        first, wide = adapted.views
        return self._first.tensors(first) | _named(self._wide.tensors(wide))

    def restore(self, params: Params, tensors: Params) -> Fitted:
        """Return the detector that :meth:`tensors` has taken apart."""
        first = self._first.restore(params, _own(tensors))
        return Fitted(params, (first, self._wide.restore(_wide(params), _wide(tensors))))

    @torch.no_grad()
    def extend(self, adapted: Fitted, support: Tensor) -> Fitted:
        """Return the detector after further good images; see :meth:`BayPrAnoMeta.extend`."""
        params, (first, wide) = adapted
        tokens = self._tail(params, support.to(device_of(params)))
        return Fitted(params, (self._first.extend(first, tokens), self._wide.extend(wide, tokens)))

    def compact(self, adapted: Fitted) -> Fitted:
        """Return the detector with sums in place of the statistics of each image."""
        params, (first, wide) = adapted
        return Fitted(params, (self._first.compact(first), self._wide.compact(wide)))

    def support_scores(self, adapted: Fitted) -> Tensor:
        """Return the ``(k,)`` leave-one-image-out scores of the support."""
        return self._support_scores(adapted).cpu()

    def size(self, adapted: Fitted) -> int:
        """Return the bytes of the adapted detector beside the frozen backbone."""
        first, wide = adapted.views
        return self._first.size(first) + self._wide.size(wide) + BYTES

    def _seen(self, adapted: Fitted, tokens: Tensor) -> list[tuple[BayPrAnoMeta, Adapted, Tensor]]:
        """Return each view: its core, its detector, and its part of the tokens."""
        cores = (self._first, self._wide)
        return list(zip(cores, adapted.views, self._split(tokens), strict=True))

    def _split(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        first, wide = (part({}, tokens) for part in self._parts)
        return first, wide

    def _support_scores(self, adapted: Fitted) -> Tensor:
        first, wide = (view.fit.support_scores for view in adapted.views)
        return first + adapted.params[WEIGHT] * wide


def _summed(spreads: Sequence[Spread], weight: Tensor) -> Spread:
    """Return the variance of the weighted sum of two views, which are taken to be independent."""
    first, wide = spreads
    return Spread(*(own + weight**2 * other for own, other in zip(first, wide, strict=True)))


def on_views(settings: Settings, encoder: Encoder) -> Method:
    """Build the method on the views that the encoder gives: one, or two of the patch grain."""
    several = len(encoder.views) > 1 and encoder.grid > 1
    return Views(settings, encoder) if several else BayPrAnoMeta(settings, encoder)


def _named(params: Params) -> Params:
    return {WIDE + name: value for name, value in params.items()}


def _wide(params: Params) -> Params:
    """Return the second view's parameters under their own names."""
    return {k.removeprefix(WIDE): v for k, v in params.items() if k.startswith(WIDE)}


def _own(params: Params) -> Params:
    """Return those of the first view."""
    return {name: value for name, value in params.items() if not name.startswith(WIDE)}
