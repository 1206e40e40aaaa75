r"""What MAML, ANIL and ProtoMAML share: a logistic classifier adapted on good images only.

.. math:: l(z) = w \cdot z + b

is the log-odds of a defect at the embedding :math:`z`. At the patch grain it is that of a token,
and an image's is an affine function of the mean of its highest ones.

The support holds no defect, so the inner loop descends the cross-entropy of "good" alone,

.. math:: F = \overline{\ln(1 + e^{l(z_{ij})})}

over images :math:`i` and tokens :math:`j`. Only the outer loss sees defects, balanced by class:
what is learned is a start from which steps on one class help.

Source: Frikha et al. 2021 (OC-MAML), for the one-class inner and the balanced outer loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap

from bayfed.config import Classifier as Settings
from bayfed.data.turned import UPRIGHT
from bayfed.episodes.episode import EpisodeBatch
from bayfed.features import Encoder, Params
from bayfed.methods.base import Scores, WithoutStatistics, bytes_of, means, variant_of
from bayfed.methods.folds import left_out, others
from bayfed.methods.head import initial_head
from bayfed.methods.inner_loop import initial_rate, inner_loop
from bayfed.methods.losses import detection_loss
from bayfed.methods.scoring import initial_log_odds, log_odds, top_mean
from bayfed.methods.tokens import device_of, embed, episode_tokens, head_of, pick
from bayfed.seeds import torch_stream

BODY = ("tail.", "head.")
"""Where the names of the weights before the classifier start."""
WEIGHT, BIAS = "classifier.weight", "classifier.bias"

Episode = Callable[..., Tensor]
"""A function of one episode's fast weights and tensors."""


class Adapted(NamedTuple):
    """The weights of one product, among the meta-parameters, and the support's own scores."""

    weights: Params
    support_scores: Tensor


class FewShotClassifier(WithoutStatistics):
    """A logistic classifier that gradient steps adapt, alone or with its body.

    The body is what embeds: the trainable tail of the encoder and the linear head behind it.

    Args:
        settings: ``method`` of the experiment.
        encoder: Gives the tail and the number of tokens.
    """

    name: str
    poses = UPRIGHT
    adapts_body: bool

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        self._settings = settings
        self._tail = encoder.tail
        self.localises = encoder.grid > 1
        self._dense = self.localises and settings.loss.dense > 0
        # Convolutions whose weights differ by episode are slow as one.
        self._each = one_by_one if self.adapts_body and encoder.tail.convolves else vmap
        self.variant = variant_of(
            no_inner=not settings.inner.steps,
            first_order=settings.inner.order == "first",
            unnormalised=not settings.normalise,
        )

    def initial_classifier(self, dim: int) -> Params:
        """Return the classifier's meta-parameters of round 0 for ``dim`` dimensions."""
        return {WEIGHT: torch.zeros(dim), BIAS: torch.tensor(0.0)}

    def classifiers(self, params: Params, support: Tensor, subset: Tensor | None) -> Params:
        """Return the classifier that each of ``b`` episodes starts from.

        Args:
            params: The meta-parameters.
            support: ``(b, k, ...)`` trunk outputs.
            subset: ``(b, t)`` positions to pick, or None for all.
        """
        del subset
        return {k: params[k].expand(len(support), *params[k].shape) for k in (WEIGHT, BIAS)}

    def initial(self, seed: int, statistics: Params | None = None) -> Params:
        """Return the meta-parameters of round 0; no ``statistics`` are used."""
        del statistics
        generator = torch_stream(seed, "initial")
        params = self._tail.initial(generator)
        params |= initial_head(self._tail.channels, self._settings.embedding, generator)
        params |= self.initial_classifier(params["head.bias"].shape[0])
        params |= initial_rate(self._settings.inner)
        return params | (initial_log_odds("score", bias=0.0) if self.localises else {})

    def loss(self, params: Params, batch: EpisodeBatch) -> tuple[Tensor, Params]:
        """Return the mean loss of the episodes' queries, and its parts."""
        fast = self._adapt(params, batch.support, batch.tokens)
        query = self._inputs(params, batch.query, batch.tokens)
        tokens = self._each(self._logits(params))(fast, *query)
        image = self._odds(params, top_mean(tokens, self._settings.top_k))
        losses, parts = vmap(self._detection)(image, tokens, batch.labels, batch.masks)
        return losses.mean(), means(parts)

    @torch.no_grad()
    def adapt(self, params: Params, support: Tensor) -> Adapted:
        """Adapt to ``(k, ...)`` trunk outputs of good images, and once without each fold."""
        stored = support.to(device_of(params))
        number = len(stored)
        own = params["head.weight"].new_zeros(number)
        for part in left_out(number) if number > 1 else ():
            fast = self._fast(params, stored[others(part, number)])
            own[part] = self._scored(params | fast, stored[part])[0]
        return Adapted(params | self._fast(params, stored), own)

    def _fast(self, params: Params, support: Tensor) -> Params:
        return {k: v[0] for k, v in self._adapt(params, support[None]).items()}

    @torch.no_grad()
    def score(self, adapted: Adapted, query: Tensor) -> Scores:
        """Score ``(q, ...)`` trunk outputs."""
        weights = adapted.weights
        image, tokens = self._scored(weights, query.to(device_of(weights)))
        odds = self._odds(weights, image).cpu()
        return Scores(image.cpu(), tokens.cpu() if self.localises else None, odds, None)

    def _scored(self, weights: Params, stored: Tensor) -> tuple[Tensor, Tensor]:
        """Return image scores ``(n,)`` and logits ``(n, t)`` of trunk outputs ``(n, ...)``."""
        (inputs,) = self._inputs(weights, stored[None])
        tokens = self._logits(weights)({}, inputs[0])
        return top_mean(tokens, self._settings.top_k), tokens

    def support_scores(self, adapted: Adapted) -> Tensor:
        """Return the ``(k,)`` scores of the support, each image by others of it."""
        return adapted.support_scores.cpu()

    def size(self, adapted: Adapted) -> int:
        """Return the bytes of the adapted detector beside the frozen backbone."""
        kept = [v for k, v in adapted.weights.items() if k.startswith((*BODY, WEIGHT, BIAS))]
        return bytes_of(*kept, adapted.support_scores)

    def embed(self, params: Params, stored: Tensor, subset: Tensor | None) -> Tensor:
        """Embed ``(b, n, ...)`` trunk outputs with one body: ``(b, n, t, d)``."""
        tokens = episode_tokens(self._tail, params, stored, subset)
        return embed(self._settings, head_of(params), tokens)

    def _inputs(
        self, params: Params, stored: Tensor, subset: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Return what fast weights work on: embeddings, or what an adapted body embeds."""
        if not self.adapts_body:
            return (self.embed(params, stored, subset),)
        return (stored,) if subset is None else (stored, subset)

    def _logits(self, params: Params) -> Episode:
        """Return the function of fast weights and inputs ``(n, ...)`` to logits ``(n, t)``."""

        def logits(fast: Params, inputs: Tensor, subset: Tensor | None = None) -> Tensor:
            weights = params | fast
            if self.adapts_body:
                tokens = self._tail(weights, inputs)
                tokens = tokens if subset is None else pick(tokens, subset)
                inputs = embed(self._settings, head_of(weights), tokens)
            return inputs @ weights[WEIGHT] + weights[BIAS]

        return logits

    def _adapt(self, params: Params, support: Tensor, subset: Tensor | None = None) -> Params:
        """Return the fast weights of ``(b, k, ...)`` supports, with a leading ``b``."""
        body = [name for name in params if self.adapts_body and name.startswith(BODY)]
        fast = {name: params[name].expand(len(support), *params[name].shape) for name in body}
        fast |= self.classifiers(params, support, subset)
        settings = self._settings.inner
        if not settings.steps:
            return fast
        inputs, logits = self._inputs(params, support, subset), self._logits(params)

        def good(fast: Params, *inputs: Tensor) -> Tensor:
            return F.softplus(logits(fast, *inputs)).mean()

        objective = self._each(good)
        rate, exact = params["inner.log_lr"].exp(), settings.order == "exact"
        return inner_loop(
            lambda fast: objective(fast, *inputs).sum(), fast, rate, settings.steps, exact
        )

    def _odds(self, params: Params, image: Tensor) -> Tensor:
        """Return an image's log-odds; one token's are its own, a mean of the highest is not."""
        return log_odds(params, "score", image) if self.localises else image

    def _detection(
        self, image: Tensor, tokens: Tensor, labels: Tensor, masks: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        dense = tokens if self._dense else None
        return detection_loss(self._settings.loss, image, dense, labels, masks)


def one_by_one(function: Episode) -> Episode:
    """Return ``function`` of one episode as a function of a batch, without vmap.

    >>> total = one_by_one(lambda fast, x: (fast["w"] * x).sum())
    >>> total({"w": torch.tensor([1.0, 2.0])}, torch.ones(2, 3)).tolist()
    [3.0, 6.0]
    """

    def run(fast: Params, *inputs: Tensor) -> Tensor:
        return torch.stack(
            [
                function({k: v[i] for k, v in fast.items()}, *(x[i] for x in inputs))
                for i in range(len(inputs[0]))
            ]
        )

    return run
