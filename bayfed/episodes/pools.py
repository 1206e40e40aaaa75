"""The disjoint pools of images from which a site's episodes and tests are drawn."""

from __future__ import annotations

from dataclasses import dataclass

from bayfed.data import SiteImage
from bayfed.errors import ProtocolError
from bayfed.seeds import stream


@dataclass(frozen=True)
class Pools:
    """What each image of a site may be used for.

    Attributes:
        site: Name of the site.
        family: Sites that make similar products share it.
        train_good: Good images for supports, training queries and calibration.
        train_anomalies: Defects, real or painted, that training may see.
        test_good: Good images that are only scored.
        test_anomalies: Defects that are only scored.
        partial: Whether other defects of the site were given to training.

    Raises:
        ProtocolError: an image is in a training and in a test pool.
    """

    site: str
    family: str
    train_good: tuple[SiteImage, ...]
    train_anomalies: tuple[SiteImage, ...] = ()
    test_good: tuple[SiteImage, ...] = ()
    test_anomalies: tuple[SiteImage, ...] = ()
    partial: bool = False

    def __post_init__(self) -> None:
        training = {i.name for i in (*self.train_good, *self.train_anomalies)}
        training |= {i.base for i in self.train_anomalies if i.base is not None}
        for image in (*self.test_good, *self.test_anomalies):
            if image.name in training or image.base in training:
                raise ProtocolError(f"{self.site}/{image.name}: used in training and in the test")

    @property
    def training(self) -> tuple[SiteImage, ...]:
        """Images that training reads."""
        return (*self.train_good, *self.train_anomalies)

    @property
    def testing(self) -> tuple[SiteImage, ...]:
        """Images that an evaluation scores."""
        return (*self.test_good, *self.test_anomalies)

    def need(self, good: int, purpose: str) -> None:
        """Check that ``good`` training normals exist.

        Raises:
            ProtocolError: there are fewer.
        """
        if len(self.train_good) < good:
            raise ProtocolError(
                f"site {self.site}: {len(self.train_good)} good training images, "
                f"{purpose} needs {good}"
            )

    def need_episode(self, shots: int, normals: int) -> None:
        """Check that training episodes can be drawn: defects, and good images beside them.

        Raises:
            ProtocolError: there are none, or too few.
        """
        if not self.train_anomalies:
            raise ProtocolError(
                f"site {self.site}: no defects to train on; set data.pasted.per_site"
            )
        painted = all(image.base is not None for image in self.train_anomalies)
        # Where every defect is painted, one base at least must stay out of an episode.
        self.need(shots + normals + painted, "an episode")


def draw_support(pools: Pools, shots: int, seed: int, draw: int) -> tuple[SiteImage, ...]:
    """Draw the supports of an evaluation from train/good.

    Raises:
        ProtocolError: the site has fewer good images than ``shots``.
    """
    pools.need(shots, f"{shots} shots")
    order = stream(seed, "support", pools.site, shots, draw).permutation(len(pools.train_good))
    return tuple(pools.train_good[i] for i in order[:shots])
