"""The pictures behind a support: its images, and their other poses where a method has any."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from bayfed.config import Evaluation
from bayfed.data import SiteImage
from bayfed.data.turned import Poses, posed
from bayfed.episodes import Pools, draws_of
from bayfed.features import StoredFeatures


def support_pictures(
    pools: Pools, settings: Evaluation, seed: int, poses: Poses
) -> tuple[SiteImage, ...]:
    """Return every picture that the supports of an evaluation need, each once.

    Args:
        pools: Of the site.
        settings: Shots and draws.
        seed: Of the experiment.
        poses: Of each image, itself the first.

    Raises:
        ProtocolError: the site has fewer good images than shots, or no defect for the noise.
    """
    draws = draws_of(pools, settings, seed)
    images = {image.name: image for draw in draws for image in draw.support}
    return tuple(posed(images.values(), poses))


def read_support(features: StoredFeatures, support: Sequence[SiteImage], poses: Poses) -> Tensor:
    """Return ``(k * poses, ...)`` trunk outputs of a support, the poses of an image in a row."""
    return features.read([picture.name for picture in posed(support, poses)])
