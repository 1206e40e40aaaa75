"""What is checked before anything is computed: settings without a site, sites without a feature."""

from __future__ import annotations

from bayfed.config import Experiment
from bayfed.data.files import FileSource
from bayfed.episodes import Pools, draw_of, seen_pools
from bayfed.features import build_encoder, resolve_device
from bayfed.methods import TrainableMethod, build_method
from clients.batched import check_batched
from clients.overlap import check_pictures
from clients.partition import client_specs


def check_settings(experiment: Experiment) -> None:
    """Check what every client of a simulation would find wrong, and need not be asked for.

    Raises:
        ConfigError: the backbone, the device, the partition or the backend is not to be had.
        DataError: no site is found.
        ProtocolError: the held-out names do not fit the sites, or two sites share a picture.
        WeightsError: the weights do not fit the backbone.
    """
    client_specs(experiment)
    resolve_device(experiment.device)
    # On the CPU, as the parameters of round 0 are made from it next.
    encoder = build_encoder(experiment, resolve_device("cpu"))
    method = build_method(experiment.method, encoder)
    if experiment.federation.backend == "batched" and isinstance(method, TrainableMethod):
        check_batched(experiment, method, encoder)
    check_pictures(experiment)


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
