"""Supervised contrastive regularisation of query embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def supervised_contrastive(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    r"""Pull embeddings of one class together and push the classes apart.

    .. math::
        \frac{1}{|I|} \sum_{i \in I} \frac{-1}{|P(i)|} \sum_{p \in P(i)}
        \ln \frac{\exp(u_i \cdot u_p / \tau)}{\sum_{a \ne i} \exp(u_i \cdot u_a / \tau)}

    Args:
        embeddings: ``(q, d)``; :math:`u` are their unit vectors.
        labels: ``(q,)``; :math:`P(i)` holds the others of label :math:`i`, and :math:`I` the
            queries for which it is not empty.
        temperature: :math:`\tau`.

    Returns:
        Nats, ``()``; 0 when no two queries share a label.

    Source: Khosla et al. 2020, equation 2.

    >>> u = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    >>> round(supervised_contrastive(u, torch.tensor([0, 0, 1, 1]), 1.0).item(), 4)
    0.2395
    """
    unit = F.normalize(embeddings, dim=-1)
    itself = torch.eye(len(labels), dtype=torch.bool, device=unit.device)
    logits = (unit @ unit.mT) / temperature
    others = logits.masked_fill(itself, torch.finfo(logits.dtype).min)
    log_share = logits - others.logsumexp(-1, keepdim=True)
    positives = ((labels[:, None] == labels[None, :]) & ~itself).to(unit.dtype)
    count = positives.sum(-1)
    per_query = -(positives * log_share).sum(-1) / count.clamp(min=1)
    return per_query.sum() / (count > 0).sum().clamp(min=1)
