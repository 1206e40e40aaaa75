r"""BayPrAnoMeta on several views of a token: the stages of the backbone, and a wide layer.

Each view has its own prior, head and posterior. A score is a weighted sum of their surprises,
in nats per dimension, and so a product of tempered likelihoods:

.. math:: s = s_0 + w\, s_1, \qquad s_{ij} = s_{0,ij} + w\, s_{1,ij}

with :math:`w` a meta-parameter; the map of a coarser view is interpolated. A Gaussian over all
channels at once has to estimate how the views vary together, for which five images are too few;
the sum assumes that they do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from bayfed.config import BayPrAnoMeta as Settings
from bayfed.episodes.episode import EpisodeBatch
from bayfed.features import Encoder, Params
from bayfed.features.views import refine
from bayfed.methods.base import BYTES, Method, Scores, Spread, means
from bayfed.methods.baypranometa import BayPrAnoMeta
from bayfed.methods.fitted import Adapted, Evidence, Fit, View
from bayfed.methods.scoring import log_odds
from bayfed.methods.tokens import device_of, episode_tokens, pick

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
        encoder: Gives the tail of each view.
    """

    name = "baypranometa"

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        self._settings = settings
        self._views = first, second = encoder.views
        self._tokens = first.grid**2
        wide = settings.model_copy(update={"top_k": settings.wide.top_k})
        self._first = BayPrAnoMeta(settings, replace(encoder, tail=first.tail))
        self._wide = BayPrAnoMeta(wide, replace(encoder, tail=second.tail))
        self._cores = self._first, self._wide
        self.poses, self.localises = self._first.poses, self._first.localises
        self.variant: str | None = "+".join(filter(None, (self._first.variant, "wide")))

    def initial(self, seed: int, statistics: Params | None = None) -> Params:
        """Return the meta-parameters of round 0; see :meth:`BayPrAnoMeta.initial`."""
        sums = statistics or {}
        params = self._first.initial(seed, _own(sums) or None)
        params |= _named(self._wide.initial(seed, _wide(sums) or None))
        return params | {WEIGHT: torch.tensor(self._settings.wide.weight)}

    def statistics(
        self, params: Params, support: Tensor, share: float = 1.0, limit: float | None = None
    ) -> Params:
        """Return the additive statistics of ``(n, ...)`` normals, a ``share`` of a site's."""
        first = self._first.statistics(params, support, share, limit)
        return first | _named(self._wide.statistics(_wide(params), support, share, limit))

    def loss(self, params: Params, batch: EpisodeBatch) -> tuple[Tensor, Params]:
        """Return the mean outer loss of the episodes, and its parts.

        A view on a grid of its own takes part with all its tokens.
        """
        first, second = (view.tail for view in self._views)
        subset = batch.tokens
        support = episode_tokens(first, params, batch.support, subset)
        query = episode_tokens(first, params, batch.query, subset)
        wide = _wide(params)
        other_support = episode_tokens(second, wide, batch.support, None)
        other_query = episode_tokens(second, wide, batch.query, None)
        fits = self._first.fits(params, support), self._wide.fits(wide, other_support)
        beside = vmap(partial(self._beside, params))(fits[1], other_query)
        if subset is not None:
            each = vmap(pick)(beside.tokens[..., None], subset)[..., 0]
            beside = beside._replace(tokens=each)
        episode = partial(self._first.episode_loss, params)
        losses, parts = vmap(episode)(fits[0], query, batch.labels, batch.masks, beside)
        return losses.mean(), means(parts)

    def _beside(self, params: Params, fit: Fit, query: Tensor) -> Evidence:
        """Return what the wide view says of a query, beyond what it says of the support."""
        found = self._wide.evidence(_wide(params), fit, query)
        return Evidence(
            params[WEIGHT] * (found.image - fit.support_scores.mean()),
            params[WEIGHT] * self._on_grid(found.tokens - fit.support_tokens),
        )

    @torch.no_grad()
    def adapt(self, params: Params, support: Tensor) -> Fitted:
        """Adapt to ``(k * poses, ...)`` trunk outputs of good images, the poses in a row."""
        first = self._first.adapt(params, support)
        return Fitted(params, (first, self._wide.adapt(_wide(params), support)))

    def score(self, adapted: Fitted, query: Tensor, spread: bool = False) -> Scores:
        """Score ``(q, ...)`` trunk outputs, with the scores' ``spread`` if asked for."""
        seen = self._seen(adapted, query)
        first, wide = (core.evidence(one.params, one.fit, part) for core, one, part in seen)
        weight = adapted.params[WEIGHT]
        image = first.image + weight * wide.image
        each = first.tokens + weight * self._on_grid(wide.tokens)
        odds = log_odds(adapted.params, "score", image, self._support_scores(adapted).mean())
        told = None
        if spread:
            spreads = [
                core.spread(one, part, found.tokens)
                for (core, one, part), found in zip(seen, (first, wide), strict=True)
            ]
            told = _summed(spreads, weight.cpu())
        return Scores(image.cpu(), each.cpu(), odds.cpu(), None, told)

    def seen(self, adapted: Fitted, query: Tensor) -> list[View]:
        """Return what both laws see of ``(q, ...)`` trunk outputs."""
        (first,), (wide,) = (
            core.seen(one, query) for core, one in zip(self._cores, adapted.views, strict=True)
        )
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
        return Fitted(
            params, (self._first.extend(first, support), self._wide.extend(wide, support))
        )

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

    def _seen(self, adapted: Fitted, query: Tensor) -> list[tuple[BayPrAnoMeta, Adapted, Tensor]]:
        """Return of each view its core, its detector, and its tokens of ``(q, ...)`` outputs."""
        inputs = query.to(device_of(adapted.params))
        return [
            (core, one, view.tail(one.params, inputs))
            for core, one, view in zip(self._cores, adapted.views, self._views, strict=True)
        ]

    def _on_grid(self, tokens: Tensor) -> Tensor:
        """Bring the wide view's ``(n, t)`` surprise, tile by tile, to the grid of the first."""
        _, wide = self._views
        if not wide.tail.convolves:
            return tokens
        tiles = tokens.reshape(-1, wide.grid**2)
        return refine(tiles, self._tokens).reshape(len(tokens), -1)

    def _support_scores(self, adapted: Fitted) -> Tensor:
        first, wide = (view.fit.support_scores for view in adapted.views)
        return first + adapted.params[WEIGHT] * wide


def _summed(spreads: Sequence[Spread], weight: Tensor) -> Spread:
    """Return the variance of the weighted sum of two views, which are taken to be independent."""
    first, wide = spreads
    return Spread(*(own + weight**2 * other for own, other in zip(first, wide, strict=True)))


def on_views(settings: Settings, encoder: Encoder) -> Method:
    """Build the method on the views that the encoder gives: one, or two of the patch grain."""
    return Views(settings, encoder) if encoder.views else BayPrAnoMeta(settings, encoder)


def _named(params: Params) -> Params:
    return {WIDE + name: value for name, value in params.items()}


def _wide(params: Params) -> Params:
    """Return the second view's parameters under their own names."""
    return {k.removeprefix(WIDE): v for k, v in params.items() if k.startswith(WIDE)}


def _own(params: Params) -> Params:
    """Return those of the first view."""
    return {name: value for name, value in params.items() if not name.startswith(WIDE)}
