"""One factory: its sites, their features and pools, and what it computes from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from bayfed.config import Experiment, Steps
from bayfed.data import SiteImage
from bayfed.data.turned import posed
from bayfed.episodes import Pools
from bayfed.episodes.episode import EpisodeBatch, stack
from bayfed.episodes.sampler import EpisodeSampler
from bayfed.errors import ConfigError
from bayfed.evaluation.calibrate import calibrate_site
from bayfed.evaluation.supports import support_pictures
from bayfed.evaluation.system import System, build_system
from bayfed.features import (
    Params,
    StoredFeatures,
    build_encoder,
    resolve_device,
)
from bayfed.methods import TrainableMethod, build_method
from bayfed.normality.empirical_bayes import NORMALS
from bayfed.seeds import stream
from clients.partition import ClientSpec, client_specs, whole
from clients.pools import behind_camera, client_pools, seen, stocks_of, trains
from clients.preflight import check_pools
from clients.preflight import check_settings as check_settings
from strategies.privacy.statistics import PrivateStatistics


@dataclass(frozen=True)
class Holding:
    """A site as one factory holds it."""

    pools: Pools
    features: StoredFeatures


def initial_parameters(experiment: Experiment, statistics: dict[str, Tensor] | None) -> Params:
    """Return the meta-parameters of round 0; the same seed gives the same ones everywhere."""
    encoder = build_encoder(experiment, resolve_device("cpu"))
    return build_method(experiment.method, encoder).initial(experiment.seed, statistics)


def lr_scales(experiment: Experiment) -> dict[str, float]:
    """Return learning-rate multipliers by prefix of a parameter's name."""
    return dict(experiment.method.rates)


class Factory:
    """A client's side of the learning problem; images and features never leave it."""

    def __init__(
        self,
        experiment: Experiment,
        spec: ClientSpec,
        train_sites: frozenset[str],
        system: System,
        holdings: tuple[Holding, ...],
    ) -> None:
        self.name = spec.name
        self.held_out = experiment.protocol.holdout
        self.method = system.method
        self._experiment = experiment
        self._spec = spec
        self._encoder = system.encoder
        self._train_sites = train_sites
        self._holdings = holdings
        self._training = [h for h in holdings if trains(h.pools, spec, experiment)]
        self.trains = bool(self._training)
        self._device = resolve_device(experiment.device)
        self._repeats: dict[int, int] = {}

    @classmethod
    def open(
        cls,
        experiment: Experiment,
        number: int | None,
        alter: Callable[[Pools], Pools] = lambda pools: pools,
    ) -> Factory:
        """Load the sites of client ``number`` and compute the features that are missing.

        Without a number it is the only client: a real node, with all sites of its folder. What
        ``alter`` makes of a site's pools is used in their place, before its camera takes them.

        Raises:
            BayfedError: an image, the weights or the protocol is at fault.
        """
        specs = (whole(experiment),) if number is None else client_specs(experiment)
        spec = _client(specs, number or 0)
        train_sites = frozenset(site for client in specs for site in client.training)
        system = build_system(experiment)
        stocks = stocks_of(experiment, spec)
        held = [alter(pools) for pools in client_pools(experiment, spec, stocks)]
        held = [p for p in held if p.site in spec.evaluates or trains(p, spec, experiment)]
        for pools in held:  # all of them, before anything is computed
            check_pools(pools, experiment, trains(pools, spec, experiment))
        held = [behind_camera(pools, experiment, spec) for pools in held]
        holdings = [Holding(p, system.store.open(_pictures(experiment, system, p))) for p in held]
        return cls(experiment, spec, train_sites, system, tuple(holdings))

    def initial(self) -> Params:
        """Return the meta-parameters of round 0 as this machine makes them, without statistics."""
        made = self.method.initial(self._experiment.seed)
        return {name: value.detach().cpu() for name, value in made.items()}

    def describe(self) -> dict[str, float | int | str]:
        """Return what the factory holds, in numbers."""
        pools = [holding.pools for holding in self._holdings]
        return {
            "sites": "+".join(p.site for p in pools),
            "train_good": sum(len(p.train_good) for p in pools),
            "train_anomalies": sum(len(p.train_anomalies) for p in pools),
            "test_good": sum(len(p.test_good) for p in pools),
            "test_anomalies": sum(len(p.test_anomalies) for p in pools),
        }

    @cached_property
    def _samplers(self) -> list[EpisodeSampler]:
        return [
            EpisodeSampler(
                seen(h.pools, self._experiment),
                h.features,
                self._encoder,
                self._experiment.episode,
                self.method.poses,
            )
            for h in self._training
        ]

    @cached_property
    def _learner(self) -> TrainableMethod:
        if not isinstance(self.method, TrainableMethod):
            raise ConfigError(f"method.name: {self.method.name} has nothing to train")
        return self.method

    def batch(self, round: int, step: int) -> EpisodeBatch:  # noqa: A002
        """Draw the episodes of one local step, its sites in turn over all steps.

        The stream is keyed by (seed, round, client, step), so nothing else decides them.
        """
        random, samplers = self._drawing(round, step)
        return stack([sampler.episode(random) for sampler in samplers]).to(self._device)

    @property
    def images(self) -> int:
        """The good images that are trained on."""
        return sum(len(holding.pools.train_good) for holding in self._training)

    def repeats(self, round: int) -> int:  # noqa: A002
        """Return the most episodes of a round in which one image takes part, whatever it shows."""
        if round not in self._repeats:
            times: Counter[tuple[int, str]] = Counter()
            for step in range(self._experiment.federation.server.local_steps):
                random, samplers = self._drawing(round, step)
                for sampler in samplers:
                    times.update((id(sampler), name) for name in sampler.images(random))
            self._repeats[round] = max(times.values())
        return self._repeats[round]

    def _drawing(self, number: int, step: int) -> tuple[np.random.Generator, list[EpisodeSampler]]:
        """Return the stream of one local step, and whose episodes are drawn from it in turn."""
        random = stream(self._experiment.seed, "episodes", number, self.name, step)
        samplers, settings = self._samplers, self._experiment.federation
        first = (number * settings.server.local_steps + step) * settings.episodes
        return random, [samplers[(first + i) % len(samplers)] for i in range(settings.episodes)]

    def loss(self, params: Params, batch: EpisodeBatch) -> tuple[Tensor, Params]:
        """Return the mean loss of the episodes, and its parts."""
        return self._learner.loss(self._local(params), batch)

    def inner_gain(self, params: Params, batch: EpisodeBatch) -> float:
        """Return by how much the inner loop lowers the loss of ``batch``; 0 without inner steps."""
        if self._unadapted is None:
            return 0.0
        losses = [m.loss(self._local(params), batch)[0] for m in (self._unadapted, self._learner)]
        before, after = (float(loss.detach()) for loss in losses)
        return before - after

    @cached_property
    def _unadapted(self) -> TrainableMethod | None:
        """The method without its inner steps, ``None`` where it has none."""
        settings = self._experiment.method
        inner = getattr(settings, "inner", None)
        if not isinstance(inner, Steps) or not inner.steps:
            return None
        still = settings.model_copy(update={"inner": inner.model_copy(update={"steps": 0})})
        built = build_method(still, self._encoder)
        return built if isinstance(built, TrainableMethod) else None

    def statistics(self) -> dict[str, Tensor]:
        """Return the additive sums of empirical Bayes over the factory's training normals.

        Where clients are hidden, they are scaled and bounded.
        """
        private = PrivateStatistics.of(self._experiment)
        limit = None if private is None else private.radius
        params = self._local(self.method.initial(self._experiment.seed))
        totals: dict[str, Tensor] = {}
        for holding in self._training:
            site, good = holding.pools.site, seen(holding.pools, self._experiment).train_good
            order = stream(self._experiment.seed, "statistics", site).permutation(len(good))
            normals = holding.features.read([good[i].name for i in order[:NORMALS]])
            sums = self._learner.statistics(params, normals, self._spec.weight(site), limit)
            totals = {k: v.cpu() + totals.get(k, 0.0) for k, v in sums.items()}
        return private.contribution(totals, self.name) if private and totals else totals

    def calibrate(
        self,
        params: Params,
        pooled: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """Return one stage of the additive sums for pooled p-values; only train/good is read."""
        params, totals = self._local(params), dict[str, Tensor]()
        settings, seed = self._experiment.evaluation, self._experiment.seed
        for holding in self._training:
            sums = calibrate_site(
                self.method, params, holding.pools, holding.features, settings, seed, pooled
            )
            totals = {k: v + totals.get(k, 0.0) for k, v in sums.items()}
        return totals

    def evaluate(
        self,
        params: Params,
        pooled: dict[str, Tensor],
    ) -> list[dict[str, Any]]:
        """Return the rows of results of the sites that this client evaluates."""
        # Late: the metrics load scikit-learn, and a process that trains has no use for it.
        from bayfed.evaluation.site import evaluate_site

        experiment, params = self._experiment, self._local(params)
        rows: list[dict[str, Any]] = []
        for holding in self._holdings:
            if holding.pools.site not in self._spec.evaluates or not holding.pools.testing:
                continue
            rows += evaluate_site(
                self.method,
                params,
                holding.pools,
                holding.features,
                experiment.evaluation,
                experiment.seed,
                pooled,
                experiment.backbone.image_size,
            )
        return [self._context() | row for row in rows]

    def _context(self) -> dict[str, Any]:
        """Return the columns that say what was run."""
        experiment = self._experiment
        return {
            "method": self.method.name,
            "variant": self.method.variant,
            "grain": experiment.method.grain,
            "protocol": experiment.protocol.name,
            "backbone": experiment.backbone.name,
            "train_sites": "+".join(sorted(self._train_sites)),
            "seed": experiment.seed,
        }

    def _local(self, params: Params) -> Params:
        return {name: value.to(self._device) for name, value in params.items()}


def _client(specs: Sequence[ClientSpec], number: int) -> ClientSpec:
    if not 0 <= number < len(specs):
        raise ConfigError(f"client {number}: the experiment has clients 0 to {len(specs) - 1}")
    return specs[number]


def _pictures(experiment: Experiment, system: System, pools: Pools) -> tuple[SiteImage, ...]:
    """Return what is read of a site: defects to train on only where something is trained."""
    drawn, learns = seen(pools, experiment), experiment.method.trains and pools.train_anomalies
    poses = system.method.poses
    episodes = (*posed(drawn.train_good, poses), *drawn.train_anomalies) if learns else ()
    supports = support_pictures(pools, experiment.evaluation, experiment.seed, poses)
    pictures = (*pools.train_good, *episodes, *pools.testing, *supports)
    return tuple({picture.name: picture for picture in pictures}.values())
