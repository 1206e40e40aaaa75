"""How sites become clients: one each, several to a client, or a Dirichlet mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bayfed.config import Clients, Experiment
from bayfed.data import SiteImage, site_names
from bayfed.episodes import Pools, check_holdout, is_held_out
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
    """

    name: str
    sites: tuple[str, ...]
    evaluates: tuple[str, ...]
    shares: dict[str, tuple[float, float]] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()

    @property
    def training(self) -> tuple[str, ...]:
        """Those of its sites that it trains on; none at a factory that is only evaluated."""
        return tuple(site for site in self.sites if site not in self.unseen)


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
        ConfigError: there are more groups than sites, or a Dirichlet client would be empty.

    >>> [c.name for c in partition(["a", "b"], ["c"], Clients(), 0)]
    ['a', 'b', 'c']
    """
    whole = {"site": _by_site, "group": _by_group, "dirichlet": _by_dirichlet}
    clients = whole[settings.partition](training, settings, seed)
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


def share(pools: Pools, spec: ClientSpec, seed: int) -> Pools:
    """Cut the training pools to the client's share, and the test pools to what it evaluates.

    A painted defect goes where its base image goes.
    """
    if pools.site not in spec.shares:
        return pools
    part = spec.shares[pools.site]
    good = _cut(pools.train_good, part, seed, pools.site, "good")
    names = {image.name for image in good}
    real = [image for image in pools.train_anomalies if image.base is None]
    painted = tuple(image for image in pools.train_anomalies if image.base in names)
    anomalies = (*_cut(real, part, seed, pools.site, "anomalies"), *painted)
    scored = pools.site in spec.evaluates
    return replace(
        pools,
        train_good=good,
        train_anomalies=anomalies,
        test_good=pools.test_good if scored else (),
        test_anomalies=pools.test_anomalies if scored else (),
    )


def _cut(
    images: Sequence[SiteImage], part: tuple[float, float], seed: int, *key: str
) -> tuple[SiteImage, ...]:
    order = stream(seed, "share", *key).permutation(len(images))
    first, last = (round(edge * len(images)) for edge in part)
    return tuple(images[i] for i in sorted(order[first:last]))
