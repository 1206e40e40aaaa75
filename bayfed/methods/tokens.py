"""From stored trunk outputs to tokens and their embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap

from bayfed.config import Embedded
from bayfed.features import Params
from bayfed.features.tail import Tail
from bayfed.methods.head import Head


def device_of(params: Params) -> torch.device:
    """Return where the meta-parameters live, and so where a method computes."""
    return params["head.weight"].device


def head_of(params: Params) -> Head:
    """Return the head that ``params`` name."""
    return Head(params["head.weight"], params["head.bias"])


def pick(tokens: Tensor, subset: Tensor) -> Tensor:
    """Pick the positions ``(t,)`` of ``(n, all, c)`` tokens.

    >>> pick(torch.arange(3.0)[None, :, None], torch.tensor([2, 0])).flatten().tolist()
    [2.0, 0.0]
    """
    index = subset[None, :, None].expand(tokens.shape[0], -1, tokens.shape[-1])
    return torch.gather(tokens, 1, index)


def episode_tokens(tail: Tail, params: Params, stored: Tensor, subset: Tensor | None) -> Tensor:
    """Run the tail once over the images of all episodes.

    Args:
        tail: The trainable part of the encoder.
        params: The meta-parameters.
        stored: ``(b, n, ...)`` trunk outputs.
        subset: ``(b, t)`` positions to pick, or None for all.

    Returns:
        ``(b, n, t, c)``.
    """
    batch, number = stored.shape[:2]
    tokens = tail(params, stored.flatten(0, 1))
    tokens = tokens.reshape(batch, number, *tokens.shape[1:])
    return tokens if subset is None else vmap(pick)(tokens, subset)


def embed(settings: Embedded, head: Head, tokens: Tensor) -> Tensor:
    """Map ``(..., c)`` tokens to ``(..., d)`` embeddings, with ReLU and LayerNorm if asked for.

    >>> head = Head(torch.eye(2), torch.zeros(2))
    >>> embed(Embedded(relu=True), head, torch.tensor([-1.0, 3.0])).tolist()
    [0.0, 3.0]
    """
    embedded = head.embed(tokens)
    if settings.relu:
        embedded = F.relu(embedded)
    return F.layer_norm(embedded, embedded.shape[-1:]) if settings.normalise else embedded


def shortened(vectors: Tensor, limit: float) -> Tensor:
    """Return ``(..., d)`` vectors, those that are longer than ``limit`` scaled back to it.

    >>> shortened(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), 2.5).tolist()
    [[1.5, 2.0], [0.0, 1.0]]
    """
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors * (limit / lengths.clamp_min(limit))
