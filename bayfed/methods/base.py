"""The small interface behind which every system stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch  # noqa: F401  # doctest
from torch import Tensor

from bayfed.data.turned import Poses
from bayfed.episodes.episode import EpisodeBatch
from bayfed.features import Params

BYTES = 4
"""Of a float32."""


class Spread(NamedTuple):
    """Variance of image scores, ``(q,)`` each, in squared units of the score.

    Attributes:
        parameters: Because the support leaves mean and covariance of normal tokens open.
        tokens: Because normal tokens vary, even about a mean that is known.
    """

    parameters: Tensor
    tokens: Tensor


class Scores(NamedTuple):
    """What a fitted method says of ``q`` query images.

    Attributes:
        image: ``(q,)``, higher = more anomalous; comparable within one adaptation.
        tokens: ``(q, t)``, the same in space, or None at the image grain.
        log_odds: ``(q,)``, defect against good, in nats, or None without a law of defects.
        p_value: ``(q,)`` under the method's own predictive, where its law is exact, or None.
        spread: Where the uncertainty of the image scores comes from, if asked for, or None.
    """

    image: Tensor
    tokens: Tensor | None
    log_odds: Tensor | None = None
    p_value: Tensor | None = None
    spread: Spread | None = None


class Method(Protocol):
    """A detector that adapts to a support and scores queries."""

    name: str
    variant: str | None
    """What sets it apart from the method's usual settings."""
    localises: bool
    """Whether scores come with a map."""
    poses: Poses
    """Pictures of each support image that it asks for, the image itself the first."""

    def initial(self, seed: int, statistics: Params | None = None) -> Params:
        """Return the parameters of round 0, and with them all that is drawn at random."""

    def adapt(self, params: Params, support: Tensor) -> Any:
        """Adapt to ``(k * poses, ...)`` trunk outputs of ``k`` good images, the poses in a row."""

    def score(self, adapted: Any, query: Tensor) -> Scores:
        """Score ``(q, ...)`` trunk outputs."""

    def support_scores(self, adapted: Any) -> Tensor:
        """Return the ``(k,)`` scores of the support images, each by others of them."""

    def size(self, adapted: Any) -> int:
        """Return the bytes of the adapted detector beside the frozen backbone."""


@runtime_checkable
class TrainableMethod(Method, Protocol):
    """A method with meta-parameters that episodes or the factories' statistics can move."""

    def statistics(
        self, params: Params, support: Tensor, share: float = 1.0, limit: float | None = None
    ) -> Params:
        """Return what a ``share`` of a site adds to empirical Bayes; {} where none is used.

        With a ``limit`` no embedding is longer.
        """

    def loss(self, params: Params, batch: EpisodeBatch) -> tuple[Tensor, Params]:
        """Return the mean loss of the episodes, and numbers worth a line in the history.

        Nothing may depend on a value: the losses of several clients are computed under vmap.
        """


@runtime_checkable
class KeptMethod(Method, Protocol):
    """A method whose detectors can be kept, and learn further good images, without the old ones."""

    def score(self, adapted: Any, query: Tensor, spread: bool = False) -> Scores:
        """Score ``(q, ...)`` trunk outputs, and tell the scores' ``spread`` if asked for."""

    def tensors(self, adapted: Any) -> Params:
        """Return what an adaptation has made, by name; the meta-parameters are not among it."""

    def restore(self, params: Params, tensors: Params) -> Any:
        """Return the detector that :meth:`tensors` has taken apart.

        Raises:
            KeyError: a tensor is missing.
            ValueError: a tensor has a wrong shape.
            NumericalError: what they make is not finite.
        """

    def extend(self, adapted: Any, support: Tensor) -> Any:
        """Return the detector after ``(n * poses, ...)`` trunk outputs of further good images."""

    def level(self, adapted: Any, fpr: float) -> float | None:
        """Return the score that a share ``fpr`` of good images exceeds; None without a law."""

    def seen(self, adapted: Any, query: Tensor) -> Sequence[Any]:
        """Return what each of its laws sees of ``(q, ...)`` trunk outputs."""

    def certain(self, adapted: Any) -> Any:
        """Return the detector as if its support had told its laws exactly."""

    def compact(self, adapted: Any) -> Any:
        """Return the detector with the sum of its images' statistics in place of each one's."""


class WithoutStatistics:
    """Of a trainable method that the factories' statistics do not move."""

    def statistics(
        self, params: Params, support: Tensor, share: float = 1.0, limit: float | None = None
    ) -> Params:
        """Return nothing: no prior is fitted."""
        del params, support, share, limit
        return {}


def variant_of(**differences: bool) -> str | None:
    """Return a method's variant from what differs from its usual settings.

    >>> variant_of(no_contrastive=True, first_order=False, fixed_broad=True)
    'no-contrastive+fixed-broad'
    """
    names = [name.replace("_", "-") for name, differs in differences.items() if differs]
    return "+".join(names) or None


def means(parts: Params) -> Params:
    """Return the mean of each part of a loss over the episodes, without its graph.

    >>> means({"accuracy": torch.tensor([0.0, 1.0])})
    {'accuracy': tensor(0.5000)}
    """
    return {name: value.detach().mean() for name, value in parts.items()}


def bytes_of(*kept: Tensor) -> int:
    """Return the bytes of tensors kept as float32.

    >>> bytes_of(torch.zeros(3), torch.zeros(2, 2))
    28
    """
    return BYTES * sum(tensor.numel() for tensor in kept)
