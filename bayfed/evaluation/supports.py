"""The pictures behind a support: its images, and their rotations where a method asks for them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from bayfed.config import Evaluation
from bayfed.data import SiteImage
from bayfed.data.turned import turned
from bayfed.episodes import Pools, draws_of
from bayfed.features import StoredFeatures


def support_pictures(
    pools: Pools, settings: Evaluation, seed: int, turns: int
) -> tuple[SiteImage, ...]:
    """Return every picture that the supports of an evaluation need, each once.

    Args:
        pools: Of the site.
        settings: Shots and draws.
        seed: Of the experiment.
        turns: Rotations of each image, itself among them.

    Raises:
        ProtocolError: the site has fewer good images than shots, or no defect for the noise.
    """
    draws = draws_of(pools, settings, seed)
    images = {image.name: image for draw in draws for image in draw.support}
    return tuple(picture for image in images.values() for picture in turned(image, turns))


def read_support(features: StoredFeatures, support: Sequence[SiteImage], turns: int) -> Tensor:
    """Return ``(k * turns, ...)`` trunk outputs of a support, the turns of an image in a row."""
    pictures = [picture for image in support for picture in turned(image, turns)]
    return features.read([picture.name for picture in pictures])
