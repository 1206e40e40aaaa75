"""What the untrained systems share: a model is fitted to the support's tokens, nothing learned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Generator, Tensor

from bayfed.config import System
from bayfed.data.turned import UPRIGHT, Poses
from bayfed.errors import ProtocolError
from bayfed.features import Encoder, Params
from bayfed.methods.base import Scores
from bayfed.methods.folds import left_out, others
from bayfed.seeds import torch_stream

CHUNK = 16
"""Support images scored at once; bounds the memory."""

Model = TypeVar("Model", bound=tuple[Tensor, ...])


class Fitted(NamedTuple, Generic[Model]):
    """A model of one product, and what it was fitted to.

    Attributes:
        params: What was drawn before any image was seen.
        tokens: Of the support, ``(k, poses * t, c)``.
        model: Fitted to all of them.
    """

    params: Params
    tokens: Tensor
    model: Model


class Untrained(ABC, Generic[Model]):
    """A system that fits a model to the support and compares the query with it.

    All that is random is drawn once, into the parameters of round 0, where a checkpoint
    keeps it.

    Args:
        settings: ``method`` of the experiment.
        encoder: Gives the tail and the device.
    """

    name: str
    poses: Poses = UPRIGHT

    def __init__(self, settings: System, encoder: Encoder) -> None:
        self.variant = settings.changed
        self.localises = encoder.grid > 1
        self._tail = encoder.tail
        self._device = encoder.device

    @abstractmethod
    def fit(self, params: Params, tokens: Tensor) -> Model:
        """Fit a model to ``(k, poses * t, c)`` tokens of good images."""

    @abstractmethod
    def compare(self, params: Params, model: Model, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return image scores ``(q,)`` and token scores ``(q, t)`` of ``(q, t, c)`` tokens."""

    def fit_others(
        self, params: Params, tokens: Tensor, parts: Sequence[Tensor]
    ) -> Iterator[Model]:
        """Fit, for each part of the images ``(k, poses * t, c)``, a model of all the others."""
        for part in parts:
            yield self.fit(params, tokens[others(part, len(tokens))])

    def draw(self, generator: Generator) -> Params:
        """Draw what the system wants at random."""
        del generator
        return {}

    def initial(self, seed: int, statistics: Params | None = None) -> Params:
        """Return the tail's parameters as they are before any training, and the system's draws."""
        del statistics
        tail = self._tail.initial(torch_stream(seed, "initial"))
        return tail | self.draw(torch_stream(seed, "initial", self.name))

    @torch.no_grad()
    def adapt(self, params: Params, support: Tensor) -> Fitted[Model]:
        """Fit to ``(k * poses, ...)`` trunk outputs of good images, the poses in a row."""
        params = {name: value.to(self._device) for name, value in params.items()}
        tokens = self._tail(params, support.to(self._device))
        tokens = tokens.reshape(-1, len(self.poses) * tokens.shape[1], tokens.shape[2])
        return Fitted(params, tokens, self.fit(params, tokens))

    @torch.no_grad()
    def score(self, adapted: Fitted[Model], query: Tensor) -> Scores:
        """Score ``(q, ...)`` trunk outputs."""
        tokens = self._tail(adapted.params, query.to(self._device))
        image, each = self.compare(adapted.params, adapted.model, tokens)
        return Scores(image.cpu(), each.cpu() if self.localises else None)

    @torch.no_grad()
    def support_scores(self, adapted: Fitted[Model]) -> Tensor:
        """Return the ``(k,)`` scores of the support images, each by others.

        These are all others of few images, else those outside its fold; see
        :func:`bayfed.methods.folds.left_out`.

        Raises:
            ProtocolError: the support is one image.
        """
        params, tokens = adapted.params, adapted.tokens
        if len(tokens) < 2:
            raise ProtocolError(f"{self.name}: a support of one image leaves none to score it by")
        upright = tokens[:, : tokens.shape[1] // len(self.poses)]
        scores, parts = tokens.new_zeros(len(tokens)), left_out(len(tokens))
        for part, model in zip(parts, self.fit_others(params, tokens, parts), strict=True):
            for some in torch.split(part, CHUNK):
                scores[some] = self.compare(params, model, upright[some])[0]
        return scores.cpu()

    def size(self, adapted: Fitted[Model]) -> int:
        """Return the bytes of the fitted model and of the tail before it."""
        tail = [v for k, v in adapted.params.items() if k.startswith("tail.")]
        return sum(t.numel() * t.element_size() for t in (*adapted.model, *tail))
