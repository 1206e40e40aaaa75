r"""BayPrAnoMeta: Bayesian Proto-MAML with a Normal-Inverse-Wishart model of normal embeddings.

An episode adapts the head to the support by a few gradient steps, recomputes the posterior
behind the adapted head, and scores queries by the log-odds of a broad law against the
Student-t predictive. At the image grain an image is one token; at the patch grain it is the
tokens of a grid, its likelihood tempered to ``r`` effective observations.

Source: arXiv 2601.19992 for the image grain; the patch grain, the tempering, the
leave-one-image-out objective and the reference to the support's own scores are bayfed's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from scipy import special
from torch import Tensor
from torch.func import vmap

from bayfed.config import BayPrAnoMeta as Settings
from bayfed.config import top_count
from bayfed.data.turned import MIRRORED, UPRIGHT
from bayfed.episodes.episode import EpisodeBatch
from bayfed.features import Encoder, Params
from bayfed.methods.base import BYTES, Scores, Spread, means, variant_of
from bayfed.methods.contrastive import supervised_contrastive
from bayfed.methods.few import others_law, whole_law
from bayfed.methods.fitted import Adapted, Evidence, Fit, View
from bayfed.methods.folded import fold
from bayfed.methods.head import Head, identity_head, initial_head
from bayfed.methods.inner_loop import initial_rate, inner_loop
from bayfed.methods.losses import accuracy, balanced_cross_entropy, dense_cross_entropy
from bayfed.methods.prior import build_prior, initial_effective, initial_prior, prior_kappa
from bayfed.methods.scoring import initial_log_odds, log_odds, top_mean
from bayfed.methods.support import (
    Support,
    count_of,
    from_tensors,
    joined,
    moments,
    summed,
    to_tensors,
)
from bayfed.methods.surprise import (
    Law,
    certain,
    fixed,
    inflated,
    inflated_at,
    initial_inflation,
    slope,
)
from bayfed.methods.tokens import device_of, embed, episode_tokens, head_of, shortened
from bayfed.normality import (
    NIW,
    EvidenceSums,
    SufficientStatistics,
    check_finite,
    distance_moments,
    evidence_sums,
    leave_one_out,
    pool,
    posterior,
    predictive,
    sufficient_statistics,
    temper,
)
from bayfed.normality.niw import predictive_dof_and_factor
from bayfed.seeds import torch_stream

SCORES, TOKENS = "scores", "tokens"
"""Names of what a support says of itself, in a detector that is taken apart."""
Each = Callable[[Callable[..., Any]], Callable[..., Any]]


class BayPrAnoMeta:
    """The method at either grain.

    Args:
        settings: ``method`` of the experiment.
        encoder: Gives the tail and the number of tokens.
    """

    name = "baypranometa"

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        self._settings = settings
        self._tail = encoder.tail
        self.variant = _variant(settings)
        self.poses = MIRRORED if settings.mirrored else UPRIGHT
        self._folds = not (settings.relu or settings.normalise)
        self._leaves_out = settings.inner.objective == "leave-one-out"
        self._patch = self.localises = encoder.grid > 1
        self._low_rank = not self._patch and settings.prior.covariance != "full"

    def initial(self, seed: int, statistics: Params | None = None) -> Params:
        """Return the meta-parameters of round 0.

        Args:
            seed: Of the experiment.
            statistics: Sum over factories of :meth:`statistics`, for empirical Bayes.
        """
        generator = torch_stream(seed, "initial")
        params = self._tail.initial(generator)
        params |= initial_head(self._tail.channels, self._settings.embedding, generator)
        sums = EvidenceSums(**statistics) if statistics else None
        dim = params["head.bias"].shape[0]
        params |= initial_prior(dim, self._settings.prior, sums)
        if self._patch:
            params["prior.log_effective"] = initial_effective(self._settings.prior.effective)
        params |= initial_rate(self._settings.inner)
        if self._settings.broad.law == "inflated":
            params |= initial_inflation()
        params |= initial_log_odds("score")
        if self._settings.loss.dense:
            params |= initial_log_odds("dense")
        return params

    def statistics(
        self, params: Params, support: Tensor, share: float = 1.0, limit: float | None = None
    ) -> Params:
        """Return the additive statistics of ``(n, ...)`` normals, a ``share`` of a site's.

        With a ``limit`` longer embeddings are scaled back to it.
        """
        with torch.no_grad():
            tokens = self._tail(params, support.to(device_of(params)))
            inputs, linear = self._split(head_of(params), tokens)
            if limit is not None:
                inputs, linear = shortened(linear.embed(inputs), limit), identity_head(linear.bias)
            images = self._statistics(params, inputs.double())
            linear = Head(linear.weight.double(), linear.bias.double())
            return dict(evidence_sums(pool(linear.project(images)), share)._asdict())

    def loss(self, params: Params, batch: EpisodeBatch) -> tuple[Tensor, Params]:
        """Return the mean outer loss of the episodes, and its parts.

        The tail runs once over all images; each episode is adapted and scored under vmap.
        """
        support = episode_tokens(self._tail, params, batch.support, batch.tokens)
        query = episode_tokens(self._tail, params, batch.query, batch.tokens)
        fits = self.fits(params, support)
        episode = partial(self.episode_loss, params)
        losses, parts = vmap(episode)(fits, query, batch.labels, batch.masks)
        return losses.mean(), means(parts)

    def fits(self, params: Params, support: Tensor) -> Fit:
        """Adapt to ``(b, k * poses, t, c)`` support tokens, each episode on its own."""
        many = Head(*(value.expand(len(support), *value.shape) for value in head_of(params)))
        return self._fit(params, many, support, vmap)

    def evidence(self, params: Params, fit: Fit, tokens: Tensor) -> Evidence:
        """Return what ``(q, t, c)`` tokens say against the fitted product."""
        inputs, linear = self._split(fit.head, tokens)
        surprise = self._surprise(params, fit.law, inputs, linear)
        return Evidence(self._image_score(surprise), surprise)

    @torch.no_grad()
    def adapt(self, params: Params, support: Tensor) -> Adapted:
        """Adapt to ``(k * poses, ...)`` trunk outputs of good images, the poses in a row."""
        tokens = self._tail(params, support.to(device_of(params)))
        return Adapted(params, self._fit(params, head_of(params), tokens, lambda one: one))

    def score(self, adapted: Adapted, query: Tensor, spread: bool = False) -> Scores:
        """Score ``(q, ...)`` trunk outputs, with the scores' ``spread`` if asked for."""
        tokens = self._tail(adapted.params, query.to(device_of(adapted.params)))
        fit = adapted.fit
        image, surprise = self.evidence(adapted.params, fit, tokens)
        odds = log_odds(adapted.params, "score", image, fit.support_scores.mean()).cpu()
        told = self.spread(adapted, tokens, surprise) if spread else None
        if self._patch:
            return Scores(image.cpu(), surprise.cpu(), odds, None, told)
        inputs, _ = self._split(fit.head, tokens)
        return Scores(image.cpu(), None, odds, fit.law.p_value(inputs[:, 0]).cpu(), told)

    def seen(self, adapted: Adapted, query: Tensor) -> list[View]:
        """Return what the law sees of ``(q, ...)`` trunk outputs."""
        tokens = self._tail(adapted.params, query.to(device_of(adapted.params)))
        return [View(adapted, self._split(adapted.fit.head, tokens)[0], 1.0)]

    def certain(self, adapted: Adapted) -> Adapted:
        """Return the detector as if its support had told the law exactly: Gaussian tails."""
        return adapted._replace(fit=adapted.fit._replace(law=certain(adapted.fit.law)))

    def level(self, adapted: Adapted, fpr: float) -> float | None:
        """Return the image score that a share ``fpr`` of good images exceeds by the F law.

        None where the model gives image scores no law of its own: at the patch grain, and behind a
        fixed broad law, of which the score is no function of the distance alone.
        """
        if self._patch or self._settings.broad.law == "fixed":
            return None
        law = adapted.fit.law
        dim = law.location.shape[-1]
        distance = dim * special.fdtri(dim, float(law.dof), 1 - fpr)
        return float(inflated_at(adapted.params, law.dof.new_tensor(distance), law.dof, dim))

    def spread(self, adapted: Adapted, tokens: Tensor, surprise: Tensor) -> Spread:
        r"""Return the variance of the image scores of ``(q, t, c)`` tokens, by the delta method.

        .. math::
            \operatorname{sd} s = \frac1{|T|} \sum_{j \in T}
            \left|\frac{\partial s_j}{\partial E[\Delta_j^2]}\right| \operatorname{sd} \Delta_j^2

        over the most surprising tokens :math:`T`. They share mean and covariance, and neighbours
        share what they see, so that they count as fully correlated in both variances.

        Args:
            adapted: The detector.
            tokens: ``(q, t, c)``.
            surprise: Of these tokens, ``(q, t)``.
        """
        fit, dim = adapted.fit, adapted.fit.law.location.shape[-1]
        inputs, _ = self._split(fit.head, tokens)
        distance = fit.law.distance(self._most_surprising(surprise, inputs))
        kappa, nu = prior_kappa(adapted.params) + count_of(fit.support), fit.law.dof + dim - 1
        _, variance = distance_moments(distance, kappa, nu, dim)
        _, factor = predictive_dof_and_factor(kappa, nu, dim)
        steep = slope(adapted.params, fit.law, distance) / (nu * factor)
        parameters = (steep * variance.sqrt()).mean(-1).square()
        return Spread(parameters.cpu(), 2 * dim * steep.mean(-1).square().cpu())

    def support_scores(self, adapted: Adapted) -> Tensor:
        """Return the ``(k,)`` leave-one-image-out scores of the support."""
        return adapted.fit.support_scores.cpu()

    def tensors(self, adapted: Adapted) -> Params:
        """Return the support's statistics and scores, and the head where steps have moved it."""
        fit = adapted.fit
        kept = {f"support.{name}": value for name, value in to_tensors(fit.support).items()}
        kept |= {SCORES: fit.support_scores, TOKENS: fit.support_tokens}
        if self._settings.inner.steps:
            kept |= {f"head.{name}": value for name, value in fit.head._asdict().items()}
        return kept

    @torch.no_grad()
    def restore(self, params: Params, tensors: Params) -> Adapted:
        """Return the detector that :meth:`tensors` has taken apart; its law is computed anew.

        Raises:
            KeyError: a tensor is missing.
            ValueError: a tensor has another shape than this method gives it.
            NumericalError: the law is not finite.
        """
        support = from_tensors({n.removeprefix("support."): v for n, v in tensors.items()})
        start, scores, tokens = head_of(params), tensors[SCORES], tensors[TOKENS]
        head = head_of(tensors) if self._settings.inner.steps else start
        seen = support if isinstance(support, Tensor) else support.whole.mean
        shapes = (scores.ndim, tokens.ndim, seen.shape[-1], *(part.shape for part in head))
        width = start.weight.shape[1] if self._folds else start.weight.shape[0]
        if shapes != (1, 0, width, *(part.shape for part in start)):
            raise ValueError("support: a tensor has a wrong shape")
        fit = self._refit(params, head, support, scores, tokens)
        check_finite(fit.law.distance(seen.new_zeros(1, width)), "posterior")
        return Adapted(params, fit)

    @torch.no_grad()
    def extend(self, adapted: Adapted, support: Tensor) -> Adapted:
        """Return the detector after ``(n * poses, ...)`` trunk outputs of further good images.

        The posterior is that of all images together, exactly, behind the head as it stands; a fit
        to all of them would differ in the inner steps alone. New images are scored by all others,
        old ones keep their scores.
        """
        params, fit = adapted.params, adapted.fit
        images = self._images(self._tail(params, support.to(device_of(params))))
        inputs, linear = self._split(fit.head, images)
        prior, together = build_prior(params), joined(fit.support, self._support(params, inputs))
        if isinstance(together, Tensor):
            found = self._described(params, prior, together, together[:, None], linear)
            return Adapted(params, Fit(fit.head, *found))
        old, new = len(fit.support_scores), len(images)
        others = self._others(prior, together, linear, new)
        surprise = self._surprise(params, others, self._upright(inputs), linear)
        tokens = (old * fit.support_tokens + new * surprise.mean()) / (old + new)
        scores = torch.cat([fit.support_scores, self._image_score(surprise)])
        return Adapted(params, self._refit(params, fit.head, together, scores, tokens))

    @torch.no_grad()
    def compact(self, adapted: Adapted) -> Adapted:
        """Return the detector with the sum of its images' statistics in place of each one's."""
        params, fit = adapted.params, adapted.fit
        scores, tokens = fit.support_scores, fit.support_tokens
        return Adapted(params, self._refit(params, fit.head, summed(fit.support), scores, tokens))

    def _refit(
        self, params: Params, head: Head, support: Support, scores: Tensor, tokens: Tensor
    ) -> Fit:
        """Return the fit that a support makes, whose images need not be at hand."""
        linear = head if self._folds else identity_head(head.bias)
        law = self._whole(build_prior(params), support, linear)
        return Fit(head, law, scores, tokens, support)

    def size(self, adapted: Adapted) -> int:
        """Return the bytes of the adapted detector beside the frozen backbone."""
        fit = adapted.fit
        dim = fit.law.location.shape[-1]
        numbers = sum(t.numel() for t in fit.head) + dim + dim * (dim + 1) // 2
        tail = [v for k, v in adapted.params.items() if k.startswith("tail.")]
        return BYTES * (numbers + sum(t.numel() for t in tail) + fit.support_scores.numel())

    def _split(self, head: Head, tokens: Tensor) -> tuple[Tensor, Head]:
        """Return inputs and the linear map that is left between them and the embeddings.

        Without ReLU and LayerNorm that is the head itself, which then needs never be applied to
        a token on its own: statistics are projected and the predictive is folded into it.
        """
        if self._folds:
            return tokens, head
        return embed(self._settings, head, tokens), identity_head(head.bias)

    def _surprise(self, params: Params, law: Law, inputs: Tensor, linear: Head) -> Tensor:
        """Return the log-odds of the broad law, per dimension, of ``(n, t, c)`` inputs."""
        if self._settings.broad.law == "inflated":
            return inflated(params, law, inputs)
        return fixed(self._settings.broad, law, inputs, linear.embed(inputs))

    def _tempered(self, params: Params, images: SufficientStatistics) -> SufficientStatistics:
        if not self._patch:
            return images
        return temper(images, params["prior.log_effective"].exp().to(images.mean.dtype))

    def _fit(self, params: Params, head: Head, tokens: Tensor, each: Each) -> Fit:
        """Run the inner loop on support tokens and recompute the posterior.

        Args:
            params: The meta-parameters.
            head: The head before the inner loop; one for each episode of a batch.
            tokens: ``(k * poses, t, c)``, with a leading episode dimension for a batch.
            each: ``vmap`` for a batch, the identity for one episode.
        """
        tokens = self._images(tokens)
        prior = build_prior(params)
        # Statistics of what does not depend on the head are taken once.
        shared = (each(partial(self._support, params))(tokens),) if self._folds else ()
        objective = each(partial(self._inner_objective, params, prior))
        settings = self._settings.inner
        if settings.steps:
            adapted = inner_loop(
                lambda fast: objective(Head(**fast), tokens, *shared).sum(),
                head._asdict(),
                params["inner.log_lr"].exp(),
                settings.steps,
                settings.order == "exact",
            )
            head = Head(**adapted)
        found = each(partial(self._posterior, params, prior))(head, tokens, *shared)
        return Fit(head, *found)

    def _images(self, tokens: Tensor) -> Tensor:
        """Gather the poses of each image: ``(..., k * poses, t, c)`` to ``(..., k, t', c)``."""
        number = len(self.poses)
        *batch, pictures, places, channels = tokens.shape
        return tokens.reshape(*batch, pictures // number, number * places, channels)

    def _posterior(
        self, params: Params, prior: NIW, head: Head, tokens: Tensor, shared: Support | None = None
    ) -> tuple[Law, Tensor, Tensor, Support]:
        """Return the law given the whole support, and how the rest of it sees each image."""
        inputs, linear = self._split(head, tokens)
        support = self._support(params, inputs) if shared is None else shared
        return self._described(params, prior, support, inputs, linear)

    def _described(
        self, params: Params, prior: NIW, support: Support, inputs: Tensor, linear: Head
    ) -> tuple[Law, Tensor, Tensor, Support]:
        others = self._others(prior, support, linear)
        surprise = self._surprise(params, others, self._upright(inputs), linear)
        law = self._whole(prior, support, linear)
        return law, self._image_score(surprise), surprise.mean(), support

    def _upright(self, inputs: Tensor) -> Tensor:
        """Return the tokens of the images themselves, without their other poses."""
        return inputs[:, : inputs.shape[1] // len(self.poses)]

    def _support(self, params: Params, inputs: Tensor) -> Support:
        if self._low_rank:
            return inputs[:, 0]
        return moments(self._statistics(params, inputs))

    def _whole(self, prior: NIW, support: Support, linear: Head) -> Law:
        """Return the law of the next embedding given the support."""
        if isinstance(support, Tensor):
            return whole_law(prior, support, linear)
        return fold(predictive(posterior(prior, linear.project(support.whole))), linear)

    def _others(self, prior: NIW, support: Support, linear: Head, last: int = 0) -> Law:
        """Return, for each image of the support or its ``last`` ones, the law given all others."""
        if isinstance(support, Tensor):
            return others_law(prior, support, linear)
        rest = leave_one_out(prior, linear.project(support.images))
        return fold(predictive(NIW(*(part[-last:] for part in rest))), linear)

    def _statistics(self, params: Params, inputs: Tensor) -> SufficientStatistics:
        return self._tempered(params, sufficient_statistics(inputs))

    def _inner_objective(
        self,
        params: Params,
        prior: NIW,
        head: Head,
        tokens: Tensor,
        shared: Support | None = None,
    ) -> Tensor:
        r"""Return the support's mean negative log density per token and dimension.

        .. math::
            -\frac{1}{d k t} \sum_{i, j} \left( \ln p(W x_{ij} + b \mid \text{others})
            + \ln\mathrm{vol}(W) \right)

        where the others are all support images but :math:`i` (``leave-one-out``), or all of
        them (``predictive``, the paper's), and the volume term makes it a density of
        :math:`x` and not of its image.
        """
        inputs, linear = self._split(head, tokens)
        support = self._support(params, inputs) if shared is None else shared
        if self._leaves_out:
            density = self._others(prior, support, linear).log_prob(inputs).mean()
        else:
            law = self._whole(prior, support, linear)
            density = law.log_prob(inputs.flatten(0, 1)).mean()
        if self._settings.inner.volume:
            density = density + head.log_volume()
        return -density / head.bias.shape[0]

    def _image_score(self, surprise: Tensor) -> Tensor:
        """Average the most surprising tokens: ``(n, t)`` to ``(n,)``."""
        return top_mean(surprise, self._settings.top_k)

    def episode_loss(
        self,
        params: Params,
        fit: Fit,
        query: Tensor,
        labels: Tensor,
        masks: Tensor,
        beside: Evidence | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the outer loss of one episode, and its parts.

        Args:
            params: The meta-parameters.
            fit: To the episode's support.
            query: ``(q, t, c)`` tokens.
            labels: ``(q,)``, 1 = defective.
            masks: ``(q, t)``; see :class:`bayfed.episodes.episode.EpisodeBatch`.
            beside: What other views say beyond what they say of the support.
        """
        inputs, linear = self._split(fit.head, query)
        image, surprise = self.evidence(params, fit, query)
        above, each = image - fit.support_scores.mean(), surprise - fit.support_tokens
        if beside is not None:
            above, each = above + beside.image, each + beside.tokens
        logits = log_odds(params, "score", above)
        settings = self._settings.loss
        parts = {"log_odds": balanced_cross_entropy(logits, labels, settings.class_prior)}
        total = parts["log_odds"]
        if settings.contrastive:
            summary = self._summary(fit, linear, surprise, inputs)
            parts["contrastive"] = supervised_contrastive(summary, labels, settings.temperature)
            total = total + settings.contrastive * parts["contrastive"]
        if settings.dense:
            dense = log_odds(params, "dense", each)
            parts["dense"] = dense_cross_entropy(dense, masks, settings.class_prior)
            total = total + settings.dense * parts["dense"]
        parts["accuracy"] = accuracy(logits, labels)
        return total, parts

    def _summary(self, fit: Fit, linear: Head, surprise: Tensor, inputs: Tensor) -> Tensor:
        """Return one ``(q, d)`` embedding an image: its most surprising tokens, centred."""
        picked = self._most_surprising(surprise, inputs)
        return linear.embed(picked.mean(-2)) - fit.law.location

    def _most_surprising(self, surprise: Tensor, inputs: Tensor) -> Tensor:
        """Return the ``(q, n, c)`` inputs of the tokens that make the image score."""
        count = top_count(self._settings.top_k, surprise.shape[-1])
        index = surprise.topk(count, dim=-1).indices
        return inputs.gather(-2, index[..., None].expand(*index.shape, inputs.shape[-1]))


def _variant(settings: Settings) -> str | None:
    """Name the parts of the method that are left out or replaced."""
    return variant_of(
        no_contrastive=not settings.loss.contrastive,
        no_inner=not settings.inner.steps,
        first_order=settings.inner.order == "first",
        empirical_bayes=settings.prior.init == "empirical-bayes",
        fixed_broad=settings.broad.law == "fixed",
        normalised=settings.normalise,
        mirrored=settings.mirrored,
    )
