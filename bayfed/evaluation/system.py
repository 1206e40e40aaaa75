"""The method of an experiment and the store of its features, built on this machine."""

from __future__ import annotations

from typing import NamedTuple

from bayfed.config import Experiment
from bayfed.errors import CheckpointError
from bayfed.evaluation.checkpoint import Snapshot
from bayfed.features import (
    Encoder,
    FeatureStore,
    Params,
    build_encoder,
    default_directory,
    resolve_device,
)
from bayfed.methods import Method, build_method


class System(NamedTuple):
    """A method, the encoder before it, and the store of what the encoder's trunk gives."""

    method: Method
    encoder: Encoder
    store: FeatureStore


def build_system(experiment: Experiment) -> System:
    """Build the parts of ``experiment`` on the device that it names.

    Raises:
        ConfigError: the backbone, its settings or the device are not to be had.
        WeightsError: the weights do not fit.
    """
    encoder = build_encoder(experiment, resolve_device(experiment.device))
    directory = experiment.store.directory or default_directory()
    store = FeatureStore(
        directory,
        encoder.trunk,
        encoder.image_size,
        experiment.store.dtype,
        experiment.backbone.aspect,
    )
    return System(build_method(experiment.method, encoder), encoder, store)


def parameters(snapshot: Snapshot, method: Method, seed: int, site: str = "") -> Params:
    """Return the meta-parameters of ``snapshot`` if they are those of ``method``.

    Args:
        snapshot: Of the run.
        method: It is to use them.
        seed: Of the experiment.
        site: Of the factory whose own part is added, if it has one; empty = the shared ones.

    Raises:
        CheckpointError: a tensor is missing, unknown or of another shape.
    """
    expected = method.initial(seed, snapshot.statistics or None)
    theta = snapshot.theta_of(site)
    shapes = {name: tuple(value.shape) for name, value in theta.items()}
    if shapes != {name: tuple(value.shape) for name, value in expected.items()}:
        raise CheckpointError(
            f"checkpoint of round {snapshot.round}: its parameters are not those of its settings "
            "in this version of bayfed"
        )
    return theta
