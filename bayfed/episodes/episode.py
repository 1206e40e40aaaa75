"""A batch of few-shot tasks as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

UNKNOWN = 255
"""Token mask of a defective image without a mask."""


@dataclass(frozen=True)
class EpisodeBatch:
    """Trunk outputs of ``b`` episodes, ready for a method's loss.

    Attributes:
        support: ``(b, k, ...)`` good images to adapt to.
        query: ``(b, q, ...)`` images to score.
        labels: ``(b, q)``, 1 = defective.
        masks: ``(b, q, t)`` uint8, 1 = a defect touches the token, ``UNKNOWN`` = not known.
        tokens: ``(b, t)`` positions still to be picked behind a tail that convolves, or None.
    """

    support: Tensor
    query: Tensor
    labels: Tensor
    masks: Tensor
    tokens: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of episodes."""
        return self.support.shape[0]

    def __getitem__(self, part: slice) -> EpisodeBatch:
        """Return some of the episodes."""
        tokens = None if self.tokens is None else self.tokens[part]
        return EpisodeBatch(
            self.support[part], self.query[part], self.labels[part], self.masks[part], tokens
        )

    def to(self, device: torch.device) -> EpisodeBatch:
        """Return the batch on ``device``."""
        tokens = None if self.tokens is None else self.tokens.to(device)
        return EpisodeBatch(
            self.support.to(device),
            self.query.to(device),
            self.labels.to(device),
            self.masks.to(device),
            tokens,
        )


def stack(episodes: list[EpisodeBatch]) -> EpisodeBatch:
    """Join batches of equal sizes.

    >>> one = EpisodeBatch(*(torch.zeros(1, 2, 3) for _ in range(4)))
    >>> len(stack([one, one]))
    2
    """
    tokens = [e.tokens for e in episodes if e.tokens is not None]
    return EpisodeBatch(
        torch.cat([e.support for e in episodes]),
        torch.cat([e.query for e in episodes]),
        torch.cat([e.labels for e in episodes]),
        torch.cat([e.masks for e in episodes]),
        torch.cat(tokens) if tokens else None,
    )
