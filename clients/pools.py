"""What a client may use its images for: its part of each site, as unlike others as asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from bayfed.config import FULL, Experiment
from bayfed.data import Site, SiteImage, load_sites
from bayfed.data.pasted import pasted_images
from bayfed.data.retaken import retaken
from bayfed.episodes import (
    Pools,
    cut,
    give_away,
    is_held_out,
    mislabelled,
    seen_pools,
    spared_kinds,
    training_pools,
    without_copies,
    without_kinds,
)
from bayfed.errors import ConfigError, ProtocolError
from bayfed.seeds import stream
from clients.partition import ClientSpec, client_specs, share, share_of

KEPT = 32
"""Sites whose stock a process keeps, where many clients stand at each."""


@dataclass(frozen=True)
class Stock:
    """A site before its clients divide it.

    Attributes:
        pools: Of the whole site.
        given: Defects in none of them, which clients take for good.
    """

    pools: Pools
    given: tuple[SiteImage, ...] = ()


def stocks_of(experiment: Experiment, spec: ClientSpec) -> dict[str, Stock]:
    """Return the stocks of a client's sites; no other site is read.

    Raises:
        BayfedError: a site cannot be read, or has too few images for the settings.
    """
    if not spec.resampled:
        return read_stocks(experiment, spec.sites)
    text = experiment.model_dump_json(include={"data", "protocol", "seed"})
    return {site: _kept(text, site) for site in spec.sites}


def read_stocks(experiment: Experiment, names: Collection[str] | None = None) -> dict[str, Stock]:
    """Return the stocks of the sites called ``names``, or of all; see :func:`stocks_of`."""
    holdout = experiment.protocol.holdout
    sites = load_sites(experiment.data, experiment.seed, holdout, names)
    return {site.name: stock_of(experiment, site) for site in sites}


@lru_cache(maxsize=KEPT)
def _kept(text: str, name: str) -> Stock:
    return read_stocks(Experiment.model_validate_json(text), (name,))[name]


def close_stocks() -> None:
    """Forget the sites that this process keeps."""
    _kept.cache_clear()


def stock_of(experiment: Experiment, site: Site) -> Stock:
    """Return what the clients of ``site`` have to divide.

    Raises:
        BayfedError: the site has too few images for the protocol or the label noise.
    """
    held = is_held_out(site.name, site.family, experiment.protocol)
    seed = experiment.seed
    painted = () if held else pasted_images(site, experiment.data.pasted, seed)
    pools = without_copies(training_pools(site, experiment.protocol, painted, seed))
    return Stock(*give_away(pools, 0.0 if held else experiment.data.skew.noise, seed))


def client_pools(
    experiment: Experiment, spec: ClientSpec, stocks: Mapping[str, Stock]
) -> list[Pools]:
    """Return the pools of a client's sites.

    Raises:
        ConfigError: a setting leaves the client too little for an episode.
    """
    client, seed, skew = _Client(experiment, spec), experiment.seed, experiment.data.skew
    parts = {site: share(stocks[site].pools, spec, seed) for site in spec.sites}
    if spec.shares:
        key = "share" if spec.resampled else "alpha"
        client.check(parts, f"federation.clients.{key}", stocks)
    if skew.missing:
        mine = [parts[site] for site in spec.training]
        kinds = spared_kinds(mine, skew.missing, seed, spec.name)
        parts = client.trained(parts, lambda pools: without_kinds(pools, kinds))
        client.check(parts, "data.skew.missing", stocks)
    if skew.quantity:
        kept = (0.0, quantity(experiment, spec))
        parts = client.trained(parts, lambda p: cut(p, kept, seed, "quantity", spec.name, p.site))
        client.check(parts, "data.skew.quantity", stocks)
    if skew.noise:
        parts = client.trained(parts, lambda pools: client.mislabelled(pools, stocks))
        client.check(parts, "data.skew.noise", stocks)
    return list(parts.values())


def quantity(experiment: Experiment, spec: ClientSpec) -> float:
    r"""Return the share of its training images that a client keeps.

    .. math:: (1 - q)^v, \quad v \sim U(0, 1)

    drawn for each client, with :math:`q` ``data.skew.quantity``: log-uniform, so that a client
    with half the images of another is as likely among the small ones as among the large.
    """
    drawn = stream(experiment.seed, "quantity", spec.name).uniform()
    return float((1 - experiment.data.skew.quantity) ** drawn)


def trains(pools: Pools, spec: ClientSpec, experiment: Experiment) -> bool:
    """Tell whether a site is trained on; of a mixture, a share too small for an episode is not."""
    if not spec.mixed:
        return pools.site in spec.training
    return _fills(pools, experiment)


def seen(pools: Pools, experiment: Experiment) -> Pools:
    """Return what episodes are drawn from."""
    return seen_pools(pools, experiment.evaluation.calibration, experiment.seed)


def behind_camera(pools: Pools, experiment: Experiment, spec: ClientSpec) -> Pools:
    """Return ``pools`` with every image, of training and of the test, as its camera takes it."""
    strength, seed = experiment.data.skew.camera, experiment.seed
    if not strength:
        return pools

    def taken(images: tuple[SiteImage, ...]) -> tuple[SiteImage, ...]:
        return retaken(images, strength, seed, spec.name)

    return replace(
        pools,
        train_good=taken(pools.train_good),
        train_anomalies=taken(pools.train_anomalies),
        test_good=taken(pools.test_good),
        test_anomalies=taken(pools.test_anomalies),
    )


def as_judged(experiment: Experiment) -> Callable[[Pools], Pools]:
    """Return what makes of a site's pools the test of the client that evaluates it."""
    judges = {site: spec for spec in client_specs(experiment) for site in spec.evaluates}
    noise, seed = experiment.data.skew.noise, experiment.seed

    def view(pools: Pools) -> Pools:
        judge = judges.get(pools.site)
        if judge is None:
            return replace(pools, test_good=(), test_anomalies=())
        if noise and pools.site in judge.training:
            pools, _ = give_away(without_copies(pools), noise, seed)
        return behind_camera(pools, experiment, judge)

    return view


def _fills(pools: Pools, experiment: Experiment) -> bool:
    episode, drawn = experiment.episode, seen(pools, experiment)
    fills = len(drawn.train_good) >= episode.shots + episode.normals + 1
    shots = experiment.evaluation.shots
    measurable = shots == FULL or len(pools.train_good) >= shots
    return fills and measurable and bool(drawn.train_anomalies)


def _able(pools: Pools, experiment: Experiment) -> bool:
    """Tell whether a factory with these images can do what every factory is asked for."""
    episode, shots = experiment.episode, experiment.evaluation.shots
    try:
        if experiment.federation.rounds:
            seen(pools, experiment).need_episode(episode.shots, episode.normals)
        pools.need(1 if shots == FULL else shots, "a support")
    except ProtocolError:
        return False
    return True


Parts = Mapping[str, Pools]


@dataclass(frozen=True)
class _Client:
    experiment: Experiment
    spec: ClientSpec

    def trained(self, parts: Parts, change: Callable[[Pools], Pools]) -> dict[str, Pools]:
        """Change the sites that are trained on."""
        return {n: change(p) if n in self.spec.training else p for n, p in parts.items()}

    def mislabelled(self, pools: Pools, stocks: Mapping[str, Stock]) -> Pools:
        seed, name = self.experiment.seed, self.spec.name
        given = share_of(stocks[pools.site].given, pools.site, self.spec, seed)
        noise = self.experiment.data.skew.noise
        return mislabelled(pools, given, noise, seed, name, pools.site)

    def check(self, parts: Parts, key: str, stocks: Mapping[str, Stock]) -> None:
        """Check that ``key`` has not taken what the whole site would have had."""
        sites, experiment = self.spec.training, self.experiment
        if self.spec.mixed:
            if any(_fills(p, experiment) or p.site in self.spec.evaluates for p in parts.values()):
                return
            raise ConfigError(
                f"{key}: no share of {self.spec.name} fills an episode; {_remedy(key)}"
            )
        for pools in (parts[site] for site in sites):
            if _able(stocks[pools.site].pools, experiment) and not _able(pools, experiment):
                raise ConfigError(
                    f"{key}: leaves {self.spec.name} {len(pools.train_good)} good images and "
                    f"{len(pools.train_anomalies)} defects to train on, too few for an episode; "
                    f"{_remedy(key)}"
                )


def _remedy(key: str) -> str:
    if key.startswith("data.skew"):
        return "lower it"
    return "raise it" + " or lower federation.clients.number" * key.endswith("alpha")
