"""Drawing episodes from a site's pools, support and query always disjoint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bayfed.config import Episode as EpisodeSettings
from bayfed.data import SiteImage
from bayfed.data.turned import UPRIGHT, Poses, posed
from bayfed.episodes.episode import UNKNOWN, EpisodeBatch
from bayfed.episodes.pools import Pools
from bayfed.features import Encoder, StoredFeatures
from bayfed.features.preprocess import token_mask


class EpisodeSampler:
    """Draws the training episodes of one site.

    Args:
        pools: The site's images by use.
        features: Stored trunk outputs of ``pools.training``.
        encoder: Tells the token grid.
        settings: Size of an episode.
        poses: Pictures of each support image that the method wants.

    Raises:
        ProtocolError: the site has too few images for one episode.
    """

    def __init__(
        self,
        pools: Pools,
        features: StoredFeatures,
        encoder: Encoder,
        settings: EpisodeSettings,
        poses: Poses = UPRIGHT,
    ) -> None:
        pools.need_episode(settings.shots, settings.normals)
        self._pools = pools
        self._features = features
        self._encoder = encoder
        self._settings = settings
        self._poses = poses
        self._masks: dict[str, Tensor] = {}

    def episode(self, random: np.random.Generator) -> EpisodeBatch:
        """Draw one episode: good supports, then good and defective queries.

        Query normals exclude the supports; a painted defect is left out when the image
        it was painted on is a support or a query normal.
        """
        shots = self._settings.shots
        good, anomalies = self._draw(random)
        support = posed(good[:shots], self._poses)
        query = [*good[shots:], *anomalies]
        tokens = self._draw_tokens(random)
        inside = tokens if not self._encoder.tail.convolves else None
        labels = torch.tensor([float(image.defect is not None) for image in query])
        masks = torch.stack([self._mask(image) for image in query])
        return EpisodeBatch(
            self._read(support, inside)[None],
            self._read(query, inside)[None],
            labels[None],
            (masks if tokens is None else masks[:, torch.from_numpy(tokens)])[None],
            None if tokens is None or inside is not None else torch.from_numpy(tokens)[None],
        )

    def images(self, random: np.random.Generator) -> set[str]:
        """Return the names of the images whose content would be in the next episode.

        Those that a defect is painted on are among them. The stream is left as by
        :meth:`episode`, and nothing is read.
        """
        good, anomalies = self._draw(random)
        self._draw_tokens(random)
        painted = {image.base for image in anomalies if image.base is not None}
        return {image.name for image in (*good, *anomalies)} | painted

    def _draw(self, random: np.random.Generator) -> tuple[list[SiteImage], list[SiteImage]]:
        """Draw supports and query normals, in this order, and the defects."""
        good = self._draw_normals(random)
        free = self._free(good)
        if not free:
            anomalies = self._pools.train_anomalies
            spared = anomalies[int(random.integers(len(anomalies)))]
            good = self._draw_normals(random, spared.base)
            free = self._free(good)
        return good, self._draw_anomalies(random, free)

    def _draw_normals(
        self, random: np.random.Generator, without: str | None = None
    ) -> list[SiteImage]:
        """Draw supports and query normals, never the image called ``without``."""
        good = [image for image in self._pools.train_good if image.name != without]
        number = self._settings.shots + self._settings.normals
        return [good[i] for i in random.permutation(len(good))[:number]]

    def _free(self, taken: Sequence[SiteImage]) -> list[SiteImage]:
        """Return the defects that are painted on none of ``taken``."""
        names = {image.name for image in taken}
        return [image for image in self._pools.train_anomalies if image.base not in names]

    def _draw_anomalies(
        self, random: np.random.Generator, free: list[SiteImage]
    ) -> list[SiteImage]:
        number = self._settings.anomalies
        chosen = random.choice(len(free), number, replace=len(free) < number)
        return [free[i] for i in chosen]

    def _draw_tokens(self, random: np.random.Generator) -> NDArray[np.intp] | None:
        total, wanted = self._encoder.grid**2, self._settings.tokens
        if wanted is None or wanted >= total:
            return None
        return np.sort(random.permutation(total)[:wanted])

    def _read(self, images: Sequence[SiteImage], tokens: NDArray[np.intp] | None) -> Tensor:
        return self._features.read([image.name for image in images], tokens)

    def _mask(self, image: SiteImage) -> Tensor:
        if image.name not in self._masks:
            grid = self._encoder.grid
            mask = None if grid == 1 else image.mask()
            self._masks[image.name] = (
                torch.full((grid * grid,), UNKNOWN, dtype=torch.uint8)
                if mask is None
                else token_mask(mask, grid)
            )
        return self._masks[image.name]
