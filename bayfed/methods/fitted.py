"""What an adaptation of BayPrAnoMeta leaves behind."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from bayfed.features import Params
from bayfed.methods.head import Head
from bayfed.methods.support import Support
from bayfed.methods.surprise import Law


class Fit(NamedTuple):
    """What an adaptation leaves behind, of one product or of a batch of episodes.

    Attributes:
        head: The adapted head.
        law: Law of the next normal embedding, as a function of what the head maps.
        support_scores: ``(k,)`` leave-one-image-out scores of the support.
        support_tokens: ``()`` mean leave-one-image-out surprise of a support token.
        support: What the law is made of.
    """

    head: Head
    law: Law
    support_scores: Tensor
    support_tokens: Tensor
    support: Support


class Evidence(NamedTuple):
    """Surprise of images ``(q,)`` and of their tokens ``(q, t)``, in nats per dimension."""

    image: Tensor
    tokens: Tensor


class Adapted(NamedTuple):
    """A detector for one product: its fit, and the meta-parameters of tail and scoring."""

    params: Params
    fit: Fit


class View(NamedTuple):
    """What one law sees of ``q`` images: its inputs ``(q, t, c)``, and its weight in the score."""

    adapted: Adapted
    inputs: Tensor
    weight: float
