"""The outer losses on labelled queries that several systems share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bayfed.config import Detection
from bayfed.episodes.episode import UNKNOWN


def balanced_cross_entropy(
    logits: Tensor, labels: Tensor, class_prior: float, weights: Tensor | None = None
) -> Tensor:
    r"""Return the cross-entropy as if defects had the share ``class_prior``.

    .. math::
        -\pi\,\overline{\ln\sigma(l)}_{y=1} - (1 - \pi)\,\overline{\ln\sigma(-l)}_{y=0}

    Args:
        logits: :math:`l`, ``(n,)`` log-odds of a defect.
        labels: :math:`y`, ``(n,)``, 0 or 1.
        class_prior: :math:`\pi`.
        weights: ``(n,)``, 0 = left out; a class without weight contributes nothing.

    >>> balanced_cross_entropy(torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]), 0.5).item()
    0.6931471824645996
    """
    weights = torch.ones_like(logits) if weights is None else weights
    total = torch.zeros_like(logits[..., 0])
    for sign, members, share in (
        (1.0, weights * labels, class_prior),
        (-1.0, weights * (1 - labels), 1 - class_prior),
    ):
        mean = (members * F.softplus(-sign * logits)).sum(-1) / members.sum(-1).clamp(min=1e-12)
        total = total + share * mean
    return total


def dense_cross_entropy(logits: Tensor, masks: Tensor, class_prior: float) -> Tensor:
    """Return the balanced cross-entropy of the tokens whose masks are known.

    Args:
        logits: ``(q, t)`` log-odds of a defect at each token.
        masks: ``(q, t)``, 1 = a defect touches the token, ``UNKNOWN`` = left out.
        class_prior: Share of defective tokens.

    >>> masks = torch.tensor([[0, 1, UNKNOWN]])
    >>> dense_cross_entropy(torch.tensor([[-9.0, 9.0, 9.0]]), masks, 0.5).item() < 1e-3
    True
    """
    known = (masks != UNKNOWN).to(logits.dtype)
    marked = (masks == 1).to(logits.dtype)
    return balanced_cross_entropy(logits.flatten(), marked.flatten(), class_prior, known.flatten())


def detection_loss(
    settings: Detection, image: Tensor, tokens: Tensor | None, labels: Tensor, masks: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of an episode's queries, and its parts.

    Args:
        settings: Class prior and weight of the dense term.
        image: ``(q,)`` log-odds of a defect.
        tokens: ``(q, t)`` log-odds of the tokens, or None for no dense term.
        labels: ``(q,)``, 1 = defective.
        masks: ``(q, t)``; see :func:`dense_cross_entropy`.
    """
    total = balanced_cross_entropy(image, labels, settings.class_prior)
    parts = {"log_odds": total, "accuracy": accuracy(image, labels)}
    if tokens is not None:
        parts["dense"] = dense_cross_entropy(tokens, masks, settings.class_prior)
        total = total + settings.dense * parts["dense"]
    return total, parts


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the share of ``(q,)`` queries on the right side of even odds.

    >>> accuracy(torch.tensor([2.0, -1.0]), torch.tensor([1.0, 1.0])).item()
    0.5
    """
    return ((logits > 0) == (labels > 0.5)).to(logits.dtype).mean()
