"""The method of an experiment and the store of its features, built on this machine."""

from __future__ import annotations

from typing import NamedTuple

from bayfed.config import Experiment
from bayfed.errors import CheckpointError
from bayfed.evaluation.checkpoint import Snapshot
from bayfed.features import (
    Encoder,
    FeatureStore,
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


def checked(snapshot: Snapshot, method: Method, seed: int) -> Snapshot:
    """Return ``snapshot`` if its meta-parameters are those of ``method``.

    Raises:
        CheckpointError: a tensor is missing, unknown or of another shape.
    """
    expected = method.initial(seed, snapshot.statistics or None)
    shapes = {name: tuple(value.shape) for name, value in snapshot.theta.items()}
    if shapes != {name: tuple(value.shape) for name, value in expected.items()}:
        raise CheckpointError(
            f"checkpoint of round {snapshot.round}: its parameters are not those of its settings "
            "in this version of bayfed"
        )
    return snapshot
