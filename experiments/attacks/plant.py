"""One plant as an attacker plays it: its images by name, and gradients of chosen episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayfed.config import Experiment
from bayfed.data import SiteImage, load_sites
from bayfed.data.pasted import pasted_images
from bayfed.episodes import Pools, training_pools, without_copies
from bayfed.episodes.episode import EpisodeBatch
from bayfed.episodes.sampler import EpisodeSampler
from bayfed.errors import ConfigError
from bayfed.evaluation.system import build_system
from bayfed.features import Encoder, Params, StoredFeatures
from bayfed.methods import TrainableMethod
from strategies.flat import flat
from strategies.local import gradient_of
from strategies.server_optimizers import moved_of

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Plant:
    """A site, its features, and the method that is trained on it."""

    experiment: Experiment
    method: TrainableMethod
    encoder: Encoder
    pools: Pools
    features: StoredFeatures

    @classmethod
    def open(cls, experiment: Experiment, name: str, most: int | None = None) -> Plant:
        """Open the site called ``name``, of which ``most`` good images exist.

        Raises:
            ConfigError: there is no such site, or nothing to train.
        """
        system = build_system(experiment)
        if not isinstance(system.method, TrainableMethod):
            raise ConfigError(f"method.name: {system.method.name} has nothing to train")
        sites = {site.name: site for site in load_sites(experiment.data, experiment.seed)}
        if name not in sites:
            raise ConfigError(f"no site is called {name!r}")
        site = sites[name]
        painted = pasted_images(site, experiment.data.pasted, experiment.seed)
        pools = training_pools(site, experiment.protocol, painted, experiment.seed)
        pools = without_copies(pools)
        pools = Pools(name, site.family, pools.train_good[:most], pools.train_anomalies)
        features = system.store.open(pools.training)
        return cls(experiment, system.method, system.encoder, pools, features)

    def sampler(self, good: Sequence[SiteImage], defects: Sequence[SiteImage]) -> EpisodeSampler:
        """Return the sampler of a plant that has these images only."""
        pools = Pools(self.pools.site, self.pools.family, tuple(good), tuple(defects))
        return EpisodeSampler(pools, self.features, self.encoder, self.experiment.episode)

    def gradient(self, params: Params, batch: EpisodeBatch) -> Vector:
        """Return the gradient for what the server moves, as one vector."""
        rates = self.experiment.method.rates
        found, _ = gradient_of(self.method.loss, params, rates, batch)
        return flat(moved_of(found, rates))
