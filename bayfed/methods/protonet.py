r"""ProtoNet: squared distance to the mean of the support's embeddings, without adaptation.

With good supports only there is one prototype; the class of defects is a constant distance,
learned as the bias of the log-odds:

.. math:: s(z) = \tfrac1d \lVert z - c \rVert^2, \quad l = e^g s + b

At the patch grain :math:`c` is the mean of all tokens, whatever their position.

Source: Snell et al. 2017, equations 1 and 2, for one class.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from bayfed.config import ProtoNet as Settings
from bayfed.data.turned import UPRIGHT
from bayfed.episodes.episode import EpisodeBatch
from bayfed.features import Encoder, Params
from bayfed.methods.base import Scores, WithoutStatistics, bytes_of, means, variant_of
from bayfed.methods.head import initial_head
from bayfed.methods.losses import detection_loss
from bayfed.methods.scoring import initial_log_odds, log_odds, top_mean
from bayfed.methods.tokens import device_of, embed, episode_tokens, head_of
from bayfed.seeds import torch_stream


class Adapted(NamedTuple):
    """The meta-parameters, the prototype ``(d,)`` and the support's own scores ``(k,)``."""

    params: Params
    prototype: Tensor
    support_scores: Tensor


class ProtoNet(WithoutStatistics):
    """The method at either grain.

    Args:
        settings: ``method`` of the experiment.
        encoder: Gives the tail and the number of tokens.
    """

    name = "protonet"
    poses = UPRIGHT

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        self._settings = settings
        self._tail = encoder.tail
        self.localises = encoder.grid > 1
        self._dense = self.localises and settings.loss.dense > 0
        self.variant = variant_of(normalised=settings.normalise)

    def initial(self, seed: int, statistics: Params | None = None) -> Params:
        """Return the meta-parameters of round 0; there are no ``statistics``."""
        del statistics
        generator = torch_stream(seed, "initial")
        params = self._tail.initial(generator)
        params |= initial_head(self._tail.channels, self._settings.embedding, generator)
        params |= initial_log_odds("score")
        return params | (initial_log_odds("dense") if self._dense else {})

    def loss(self, params: Params, batch: EpisodeBatch) -> tuple[Tensor, Params]:
        """Return the mean loss of the episodes' queries, and its parts."""
        support, query = (
            embed(
                self._settings,
                head_of(params),
                episode_tokens(self._tail, params, stored, batch.tokens),
            )
            for stored in (batch.support, batch.query)
        )
        episode = partial(self._episode_loss, params)
        losses, parts = vmap(episode)(support, query, batch.labels, batch.masks)
        return losses.mean(), means(parts)

    def _episode_loss(
        self, params: Params, support: Tensor, query: Tensor, labels: Tensor, masks: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        tokens = distance(query, support.mean((0, 1)))
        image = log_odds(params, "score", top_mean(tokens, self._settings.top_k))
        dense = log_odds(params, "dense", tokens) if self._dense else None
        return detection_loss(self._settings.loss, image, dense, labels, masks)

    @torch.no_grad()
    def adapt(self, params: Params, support: Tensor) -> Adapted:
        """Average the embeddings of ``(k, ...)`` trunk outputs of good images."""
        embedded = self._embed(params, support)
        means = embedded.mean(1)
        others = (means.sum(0) - means) / (len(means) - 1)
        own = torch.stack([distance(z, c) for z, c in zip(embedded, others, strict=True)])
        return Adapted(params, means.mean(0), top_mean(own, self._settings.top_k))

    def score(self, adapted: Adapted, query: Tensor) -> Scores:
        """Score ``(q, ...)`` trunk outputs."""
        tokens = distance(self._embed(adapted.params, query), adapted.prototype)
        image = top_mean(tokens, self._settings.top_k)
        odds = log_odds(adapted.params, "score", image).cpu()
        return Scores(image.cpu(), tokens.cpu() if self.localises else None, odds, None)

    def support_scores(self, adapted: Adapted) -> Tensor:
        """Return the ``(k,)`` leave-one-image-out scores of the support."""
        return adapted.support_scores.cpu()

    def size(self, adapted: Adapted) -> int:
        """Return the bytes of the adapted detector beside the frozen backbone."""
        kept = [v for k, v in adapted.params.items() if k.startswith(("tail.", "head."))]
        return bytes_of(*kept, adapted.prototype, adapted.support_scores)

    def _embed(self, params: Params, stored: Tensor) -> Tensor:
        tokens = self._tail(params, stored.to(device_of(params)))
        return embed(self._settings, head_of(params), tokens)


def distance(embedded: Tensor, prototype: Tensor) -> Tensor:
    """Return mean squared differences per dimension of ``(..., d)`` embeddings: ``(...)``.

    >>> distance(torch.tensor([[3.0, 4.0]]), torch.zeros(2)).tolist()
    [12.5]
    """
    return (embedded - prototype).square().mean(-1)
