r"""Iterative refinement: a normalizing flow whose start is meta-learned, and cycles of rejection.

The tokens of a product are first made white by the support's own mean and covariance,

.. math::
    z = \Sigma^{-1/2} (x - \mu), \quad
    \Sigma = (1 - \sigma) S + \sigma \tfrac{\operatorname{tr} S}{d} I

so that the flow starts from the same place for every product and needs to learn only what a
Gaussian does not say. With :math:`f_\phi` a stack of affine couplings that is nearly the
identity at round 0, the density of white tokens, the surprise of a token and the hybrid score are

.. math::
    \ln p_\phi(z) &= \ln \mathcal N(f_\phi(z); 0, I) + \ln|\det \partial f_\phi / \partial z| \\
    A(x) &= -\tfrac1d \ln p_\phi(z), \quad M(x) = \tfrac1{2d} \lVert z \rVert^2 \\
    s(x) &= (1 - \lambda) A(x) + \lambda M(x)

An image's score is the mean of its highest ones. The inner loop descends the support's mean
:math:`A` from the meta-learned :math:`\phi`; the outer loss is the mean :math:`A` of the query
normals and, as of the other trainable systems, the cross-entropy of the queries' log-odds.
Meta-parameters are :math:`\phi`, the inner rate, :math:`\sigma`, :math:`\lambda` and the affine
map to log-odds. At an evaluation there may be more steps, each on tokens drawn anew. The cycles
of scoring, rejection and re-adaptation, with their threshold, are those of
:mod:`bayfed.methods.refined`, which is around this system unless they are set to 0.

Source: arXiv 2503.01569, whose text names MAML, a flow on multi-scale features, cycles with
IQR rejection, a threshold recomputed in each cycle and a hybrid score, but no equation that
could be found. Stated here, and so bayfed's own: the whitening, the couplings (Dinh et al. 2017),
what the hybrid is made of, that re-adaptation starts from the meta-learned weights, and that the
scales are one vector, as the encoder stacks them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, vmap

from bayfed.config import Refinement as Settings
from bayfed.config import Steps
from bayfed.data.turned import UPRIGHT
from bayfed.episodes.episode import EpisodeBatch
from bayfed.errors import ConfigError
from bayfed.features import Encoder, Params
from bayfed.methods.base import Scores, WithoutStatistics, bytes_of, means, variant_of
from bayfed.methods.folds import left_out, others
from bayfed.methods.inner_loop import initial_rate, inner_loop
from bayfed.methods.losses import detection_loss
from bayfed.methods.scoring import initial_log_odds, log_odds, top_mean
from bayfed.methods.tokens import episode_tokens
from bayfed.seeds import torch_stream

FLOW = "flow."
"""Where the names of the flow's weights start."""
SHRINK, HYBRID = "gaussian.shrink", "score.hybrid"
NEAR_IDENTITY = 0.01
"""Scale of a coupling's last layer at round 0; with 0 nothing before it would be seen."""
STEEPEST = 10.0
"""Factor by which a coupling stretches or shrinks at most: a few steps must not diverge."""
CHUNK = 16
"""Support images scored at once; bounds the memory."""


class Whitening(NamedTuple):
    r"""A Gaussian of tokens, batch shape ``(...)``.

    Attributes:
        mean: ``(..., d)``.
        root: :math:`\Sigma^{-1/2}`, ``(..., d, d)``, symmetric: channels keep their meaning.
    """

    mean: Tensor
    root: Tensor

    def __call__(self, tokens: Tensor) -> Tensor:
        """Make ``(..., n, d)`` tokens white."""
        return (tokens - self.mean[..., None, :]) @ self.root


class Adapted(NamedTuple):
    """The weights of one product, among the meta-parameters, its Gaussian and its own scores."""

    weights: Params
    whitening: Whitening
    support_scores: Tensor


class Density(nn.Module):
    """The log density of white vectors under a flow, as a module for ``functional_call``."""

    def __init__(self, dim: int, transforms: int, hidden: int) -> None:
        from zuko.flows import NICE  # late: only this system needs it
        from zuko.transforms import MonotonicAffineTransform

        super().__init__()
        coupling = partial(MonotonicAffineTransform, slope=1 / STEEPEST)
        with torch.random.fork_rng(devices=[]):  # its own weights are never used
            # Smooth, as the outer gradient passes through gradients.
            self.flow = NICE(
                dim,
                transforms=transforms,
                hidden_features=(hidden,),
                activation=nn.SiLU,
                univariate=coupling,
            )

    def forward(self, white: Tensor) -> Tensor:
        """Return ``(...)`` nats of ``(..., d)``."""
        density: Tensor = self.flow().log_prob(white)
        return density

    def initial(self, generator: Generator) -> Params:
        """Draw weights with which the flow is nearly the identity."""
        last = {
            id(list(network.children())[-1].weight)
            for network in self.modules()
            if isinstance(network, nn.Sequential)
        }
        params = {}
        for name, value in self.named_parameters():
            scale = 0.0 if value.ndim < 2 else value.shape[-1] ** -0.5
            scale *= NEAR_IDENTITY if id(value) in last else 1.0
            params[name] = scale * torch.randn(value.shape, generator=generator)
        return params


class Refinement(WithoutStatistics):
    """The system at either grain, without its cycles.

    Args:
        settings: ``method`` of the experiment.
        encoder: Gives the tail and the number of tokens.

    Raises:
        ConfigError: a token is a single number, which no coupling can split.
    """

    name = "refinement"
    poses = UPRIGHT

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        self._settings = settings
        self._tail = encoder.tail
        self.localises = encoder.grid > 1
        self._dense = self.localises and settings.loss.dense > 0
        channels = encoder.tail.channels
        self._dim = min(channels, settings.channels or channels)
        if self._dim < 2:
            raise ConfigError("method.name: refinement needs two channels at least")
        flow = settings.flow
        self._density = Density(self._dim, flow.transforms, flow.hidden).to(encoder.device)
        self.variant = variant_of(
            no_inner=not settings.inner.steps and not settings.adapt_steps,
            first_order=settings.inner.order == "first",
        )

    def initial(self, seed: int, statistics: Params | None = None) -> Params:
        """Return the meta-parameters of round 0; no ``statistics`` are used."""
        del statistics
        generator = torch_stream(seed, "initial")
        params = self._tail.initial(generator)
        params |= self._density.initial(generator)
        settings = self._settings
        params[SHRINK] = torch.tensor(settings.shrink).logit()
        params[HYBRID] = torch.tensor(settings.hybrid).logit()
        # An evaluation may take steps where training takes none.
        steps = max(settings.inner.steps, settings.adapt_steps or 0)
        params |= initial_rate(Steps(steps=steps, lr=settings.inner.lr))
        params |= initial_log_odds("score")
        return params | (initial_log_odds("dense") if self._dense else {})

    def loss(self, params: Params, batch: EpisodeBatch) -> tuple[Tensor, Params]:
        """Return the mean loss of the episodes' queries, and its parts."""
        support, query = (
            self._kept(episode_tokens(self._tail, params, stored, batch.tokens))
            for stored in (batch.support, batch.query)
        )
        whitening = vmap(self._whitening, (None, 0))(params, support)
        white = whitening(support.flatten(1, 2))
        start = {
            name: value.expand(len(batch), *value.shape)
            for name, value in params.items()
            if name.startswith(FLOW)
        }
        settings, surprise = self._settings.inner, vmap(self._surprise)
        if settings.steps:
            rate, exact = params["inner.log_lr"].exp(), settings.order == "exact"
            start = inner_loop(
                lambda fast: surprise(fast, white).mean(-1).sum(),
                start,
                rate,
                settings.steps,
                exact,
            )
        inputs = whitening(query.flatten(1, 2)).reshape(query.shape)
        losses, parts = vmap(self._episode_loss, (None, 0, 0, 0, 0))(
            params, start, inputs, batch.labels, batch.masks
        )
        return losses.mean(), means(parts)

    def _episode_loss(
        self, params: Params, fast: Params, white: Tensor, labels: Tensor, masks: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        surprise = self._surprise(fast, white)
        tokens = self._hybrid(params, surprise, white)
        image = log_odds(params, "score", top_mean(tokens, self._settings.top_k))
        dense = log_odds(params, "dense", tokens) if self._dense else None
        total, parts = detection_loss(self._settings.loss, image, dense, labels, masks)
        good = 1 - labels
        parts["density"] = (surprise.mean(-1) * good).sum() / good.sum().clamp(min=1)
        return total + self._settings.loss.density * parts["density"], parts

    @torch.no_grad()
    def adapt(self, params: Params, support: Tensor) -> Adapted:
        """Adapt to ``(k, ...)`` trunk outputs of good images, and once without each fold."""
        stored = support.to(params[SHRINK].device)
        tokens = self._kept(self._tail(params, stored))
        number = len(tokens)
        own = tokens.new_zeros(number)
        for part in left_out(number) if number > 1 else ():
            fitted = self._fit(params, tokens[others(part, number)])
            for some in torch.split(part, CHUNK):
                own[some] = self._scored(*fitted, tokens[some])[0]
        return Adapted(*self._fit(params, tokens), own)

    def _fit(self, params: Params, tokens: Tensor) -> tuple[Params, Whitening]:
        """Return the weights and the Gaussian of ``(k, t, d)`` tokens."""
        whitening = self._whitening(params, tokens)
        white, settings = whitening(tokens.flatten(0, 1)), self._settings
        steps = settings.inner.steps if settings.adapt_steps is None else settings.adapt_steps
        fast = {name: value for name, value in params.items() if name.startswith(FLOW)}
        if steps:
            rate = params["inner.log_lr"].exp()
            fast = inner_loop(self._objective(white), fast, rate, steps, exact=False)
        return params | {k: v.detach() for k, v in fast.items()}, whitening

    def _objective(self, white: Tensor) -> Callable[[Params], Tensor]:
        """Return the mean surprise of other tokens at each call, of all if they are few."""
        number, most = len(white), self._settings.adapt_tokens
        generator = torch_stream(0, "adaptation", number)

        def objective(fast: Params) -> Tensor:
            if number <= most:
                return self._surprise(fast, white).mean()
            drawn = torch.randperm(number, generator=generator)[:most]
            return self._surprise(fast, white[drawn.to(white.device)]).mean()

        return objective

    @torch.no_grad()
    def score(self, adapted: Adapted, query: Tensor) -> Scores:
        """Score ``(q, ...)`` trunk outputs."""
        weights, whitening, _ = adapted
        tokens = self._kept(self._tail(weights, query.to(weights[SHRINK].device)))
        image, each = self._scored(weights, whitening, tokens)
        odds = log_odds(weights, "score", image).cpu()
        return Scores(image.cpu(), each.cpu() if self.localises else None, odds, None)

    def support_scores(self, adapted: Adapted) -> Tensor:
        """Return the ``(k,)`` scores of the support, each image by others of it."""
        return adapted.support_scores.cpu()

    def size(self, adapted: Adapted) -> int:
        """Return the bytes of the adapted detector beside the frozen backbone."""
        dim = self._dim
        kept = [v for k, v in adapted.weights.items() if k.startswith((FLOW, "tail."))]
        half = torch.zeros(dim * (dim + 1) // 2)  # of a symmetric matrix
        return bytes_of(*kept, adapted.whitening.mean, half, adapted.support_scores)

    def _kept(self, tokens: Tensor) -> Tensor:
        """Return the channels that the flow describes, the same for every seed."""
        channels = tokens.shape[-1]
        if channels == self._dim:
            return tokens
        order = torch.randperm(channels, generator=torch_stream(0, "channels", channels))
        return tokens[..., order[: self._dim].sort().values.to(tokens.device)]

    def _whitening(self, params: Params, tokens: Tensor) -> Whitening:
        r"""Return the Gaussian of ``(k, t, d)`` tokens; its moments are constants to a gradient.

        The eigenvectors of :math:`\Sigma` are those of :math:`S`, so only its eigenvalues depend
        on the shrinkage.
        """
        samples = tokens.detach().flatten(0, 1)
        mean = samples.mean(0)
        centred = samples - mean
        values, axes = torch.linalg.eigh(centred.mT @ centred / len(samples))
        values = values.clamp(min=0)
        shrink = params[SHRINK].sigmoid()
        level = values.mean().clamp(min=torch.finfo(values.dtype).tiny ** 0.5)
        spectrum = (1 - shrink) * values + shrink * level
        return Whitening(mean, (axes * spectrum.rsqrt()) @ axes.mT)

    def _surprise(self, weights: Params, white: Tensor) -> Tensor:
        """Return the flow's surprise per dimension of ``(..., d)`` white tokens."""
        flow = {name: value for name, value in weights.items() if name.startswith(FLOW)}
        density: Tensor = functional_call(self._density, flow, (white,))
        return -density / self._dim

    def _hybrid(self, params: Params, surprise: Tensor, white: Tensor) -> Tensor:
        """Return the score of tokens from the flow's surprise and the Gaussian's."""
        share = params[HYBRID].sigmoid()
        return (1 - share) * surprise + share * white.square().mean(-1) / 2

    def _scored(
        self, weights: Params, whitening: Whitening, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return image scores ``(n,)`` and token scores ``(n, t)`` of ``(n, t, d)`` tokens."""
        white = whitening(tokens)
        each = self._hybrid(weights, self._surprise(weights, white), white)
        return top_mean(each, self._settings.top_k), each
