"""How sites become clients: one each, several to a client, mixed, or several at one site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bayfed.config import Clients, Experiment
from bayfed.data import SiteImage, site_names
from bayfed.episodes import Pools, check_holdout, cut, cut_images, is_held_out
from bayfed.errors import ConfigError
from bayfed.seeds import stream

SMALLEST_SHARE = 0.02
"""A client holds a site when it gets more of its images than this."""


@dataclass(frozen=True)
class ClientSpec:
    """Who a client is.

    Attributes:
        name: Of the factory.
        sites: Those it holds images of.
        evaluates: Those whose test images it scores; every site is scored by one client.
        shares: Site -> (from, to), the part of its training images, in a seeded order.
        unseen: Those of its sites that training must not see.
        resampled: Whether its shares are drawn from orders of its own, so that what it holds
            others may hold as well. Otherwise clients share no image.
    """

    name: str
    sites: tuple[str, ...]
    evaluates: tuple[str, ...]
    shares: dict[str, tuple[float, float]] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    resampled: bool = False

    @property
    def training(self) -> tuple[str, ...]:
        """Those of its sites that it trains on; none at a factory that is only evaluated."""
        return tuple(site for site in self.sites if site not in self.unseen)

    @property
    def mixed(self) -> bool:
        """Whether its sites are shared out among the clients."""
        return bool(self.shares) and not self.resampled

    def weight(self, site: str) -> float:
        """Return how much of a factory at ``site`` it is: the shares of a mixture add up to one."""
        first, last = self.shares[site] if self.mixed else (0.0, 1.0)
        return last - first


def client_specs(experiment: Experiment) -> tuple[ClientSpec, ...]:
    """Return who takes part, from the names of the sites alone.

    Raises:
        ConfigError: the partition of sites into clients is impossible.
        DataError: no site is found.
        ProtocolError: the held-out names do not fit the sites.
    """
    names = site_names(experiment.data, experiment.seed)
    check_holdout(names, experiment.protocol)
    held = {name for name, family in names if is_held_out(name, family, experiment.protocol)}
    return partition(
        [name for name, _ in names if name not in held],
        sorted(held),
        experiment.federation.clients,
        experiment.seed,
    )


def whole(experiment: Experiment) -> ClientSpec:
    """Return the one client that a real node is, with all sites of its folder.

    Raises:
        DataError: no site is found.
    """
    names = site_names(experiment.data, experiment.seed)
    sites = tuple(name for name, _ in names)
    unseen = tuple(n for n, family in names if is_held_out(n, family, experiment.protocol))
    # Named by what it trains on: the history of a run tells by it which sites took part.
    name = "+".join([site for site in sites if site not in unseen] or sites)
    return ClientSpec(name, sites, sites, unseen=unseen)


def partition(
    training: Sequence[str], held_out: Sequence[str], settings: Clients, seed: int
) -> tuple[ClientSpec, ...]:
    """Assign the training sites to clients; each held-out site is a client that only evaluates.

    Raises:
        ConfigError: there are more groups than sites, a Dirichlet client would be empty, or two
            clients would have one name.

    >>> [c.name for c in partition(["a", "b"], ["c"], Clients(), 0)]
    ['a', 'b', 'c']
    """
    makers = {
        "site": _by_site, "group": _by_group, "dirichlet": _by_dirichlet, "resample": _by_resampling
    }  # fmt: skip
    clients = makers[settings.partition](training, settings, seed)
    for name in {client.name for client in clients} & {*held_out}:
        raise ConfigError(f"federation.clients.partition: a client and a site are called {name}")
    unseen = tuple(ClientSpec(name, (name,), (name,), unseen=(name,)) for name in held_out)
    return (*clients, *unseen)


def _by_site(training: Sequence[str], settings: Clients, seed: int) -> tuple[ClientSpec, ...]:
    del settings, seed
    return tuple(ClientSpec(name, (name,), (name,)) for name in training)


def _number(training: Sequence[str], settings: Clients) -> int:
    return settings.number or max(1, len(training) // 2)


def _by_group(training: Sequence[str], settings: Clients, seed: int) -> tuple[ClientSpec, ...]:
    number = _number(training, settings)
    if number > len(training):
        raise ConfigError(
            f"federation.clients.number: {number} clients for {len(training)} training sites"
        )
    order = stream(seed, "groups").permutation(len(training))
    groups = [sorted(training[i] for i in part) for part in np.array_split(order, number)]
    return tuple(ClientSpec("+".join(g), tuple(g), tuple(g)) for g in groups)


def _by_dirichlet(training: Sequence[str], settings: Clients, seed: int) -> tuple[ClientSpec, ...]:
    number = _number(training, settings)
    shares: list[dict[str, tuple[float, float]]] = [{} for _ in range(number)]
    evaluates: list[list[str]] = [[] for _ in range(number)]
    for site in training:
        weights = stream(seed, "dirichlet", site).dirichlet([settings.alpha] * number)
        weights = np.where(weights > SMALLEST_SHARE, weights, 0.0)
        edges = np.concatenate([[0.0], np.cumsum(weights / weights.sum())])
        for client in map(int, np.flatnonzero(weights)):
            shares[client][site] = (float(edges[client]), float(edges[client + 1]))
        evaluates[int(weights.argmax())].append(site)
    for empty in (c for c, held in enumerate(shares) if not held):
        raise ConfigError(
            f"federation.clients.alpha: {settings.alpha} leaves client {empty} of {number} "
            "without images; raise it or lower federation.clients.number"
        )
    return tuple(
        ClientSpec(f"mixture_{c:02d}", tuple(sorted(shares[c])), tuple(evaluates[c]), shares[c])
        for c in range(number)
    )


def _by_resampling(training: Sequence[str], settings: Clients, seed: int) -> tuple[ClientSpec, ...]:
    del seed  # which images a client holds is drawn where they are known
    clients = []
    for index in range(settings.number or len(training)):
        site = training[index % len(training)]
        judged = (site,) if index < len(training) else ()
        part = {site: (0.0, settings.share)}
        clients.append(ClientSpec(f"{site}_{index:03d}", (site,), judged, part, resampled=True))
    return tuple(clients)


def share(pools: Pools, spec: ClientSpec, seed: int) -> Pools:
    """Cut the training pools to the client's share, and the test pools to what it evaluates.

    A painted defect goes where its base image goes.
    """
    if pools.site not in spec.shares:
        return pools
    pools = cut(pools, spec.shares[pools.site], seed, *_order(spec, pools.site))
    scored = pools.site in spec.evaluates
    return replace(
        pools,
        test_good=pools.test_good if scored else (),
        test_anomalies=pools.test_anomalies if scored else (),
    )


def share_of(
    images: Sequence[SiteImage], site: str, spec: ClientSpec, seed: int
) -> tuple[SiteImage, ...]:
    """Cut images of a site that are in none of its pools to the client's share."""
    if site not in spec.shares:
        return tuple(images)
    return cut_images(images, spec.shares[site], seed, *_order(spec, site), "others")


def _order(spec: ClientSpec, site: str) -> tuple[str, ...]:
    """Return the key of the order that a share is of."""
    return ("share", site, spec.name) if spec.resampled else ("share", site)
