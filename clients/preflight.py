"""What is checked before anything is computed: settings without a site, sites without a feature."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from bayfed.config import Experiment, Skew
from bayfed.data.files import FileSource
from bayfed.episodes import Pools, draw_of, seen_pools
from bayfed.errors import ConfigError
from bayfed.features import build_encoder, resolve_device
from bayfed.methods import TrainableMethod, build_method
from clients.overlap import check_pictures
from clients.partition import ClientSpec, client_specs
from clients.pools import Stock, client_pools, read_stocks

SHARED = ("dirichlet", "resample")
"""Partitions in which clients hold parts of a site."""


def check_settings(experiment: Experiment) -> None:
    """Check what every client of a simulation would find wrong, and need not be asked for.

    Raises:
        ConfigError: the backbone, the device, the partition or the backend is not to be had.
        DataError: no site is found.
        ProtocolError: the held-out names do not fit the sites, or two sites share a picture.
        WeightsError: the weights do not fit the backbone.
    """
    specs = client_specs(experiment)
    resolve_device(experiment.device)
    # On the CPU, as the parameters of round 0 are made from it next.
    encoder = build_encoder(experiment, resolve_device("cpu"))
    method = build_method(experiment.method, encoder)
    if experiment.federation.backend == "batched" and isinstance(method, TrainableMethod):
        # Late: a server that has nothing of the kind to check need not load the client app.
        from clients.batched import check_batched

        check_batched(experiment, method, encoder)
    check_pictures(experiment)
    if experiment.federation.clients.partition in SHARED or experiment.data.skew != Skew():
        check_clients(experiment, specs)


def check_clients(experiment: Experiment, specs: Sequence[ClientSpec]) -> None:
    """Check, by the names of the images alone, that each client gets enough of them.

    Raises:
        ConfigError: a setting leaves a client too little for an episode, or more clients are to
            stand at a site than can differ.
        BayfedError: a site has too few images for the protocol.
    """
    stocks = read_stocks(experiment)
    if experiment.federation.clients.partition == "resample":
        _check_crowd(experiment, specs, stocks)
    for spec in specs:
        client_pools(experiment, spec, stocks)


def _check_crowd(
    experiment: Experiment, specs: Sequence[ClientSpec], stocks: Mapping[str, Stock]
) -> None:
    share = experiment.federation.clients.share
    standing = Counter(spec.sites[0] for spec in specs if spec.resampled)
    for site, clients in standing.items():
        good = len(stocks[site].pools.train_good)
        able = math.comb(good, round(share * good))
        if able < clients:
            raise ConfigError(
                f"federation.clients.number: {clients} clients at site {site}, of whose {good} "
                f"good images a share {share:g} can be drawn in {able} way{'s' * (able > 1)}; "
                "lower it or the share"
            )


def check_pools(pools: Pools, experiment: Experiment, trains: bool) -> None:
    """Check that a site has what is asked of it, by the names and the headers of its files.

    Args:
        pools: Of the site.
        experiment: The settings.
        trains: Whether the site is trained on.

    Raises:
        DataError: a mask is unreadable or not of its image's size.
        ProtocolError: the site has too few images.
    """
    if trains and experiment.federation.rounds:
        seen = seen_pools(pools, experiment.evaluation.calibration, experiment.seed)
        seen.need_episode(experiment.episode.shots, experiment.episode.normals)
    if pools.testing or not experiment.evaluation.noise:
        draw_of(pools, experiment.evaluation, experiment.seed, 0)
    if experiment.method.grain == "patch":
        for image in (*pools.train_anomalies, *pools.test_anomalies):
            if isinstance(image.source, FileSource):
                image.source.check_mask()
