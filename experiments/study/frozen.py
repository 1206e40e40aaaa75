"""The frozen episodes of real sites, few numbers each, in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bayfed.config import Experiment
from bayfed.episodes.episode import EpisodeBatch, stack
from bayfed.errors import ConfigError
from bayfed.features import build_encoder, resolve_device
from bayfed.features.tail import IdentityTail
from bayfed.methods import TrainableMethod, build_method
from clients.diagnosis import FROZEN
from clients.factory import Factory
from clients.partition import client_specs
from strategies.server_optimizers import moved_of
from strategies.task import Params


@dataclass(frozen=True, eq=False)
class Frozen:
    """What is left of an experiment when its episodes are frozen.

    Attributes:
        method: On tokens of few channels.
        theta: Its meta-parameters of round 0, float64.
        episodes: Of each client that trains, by its name; as many for each.
        rates: Multipliers of the server.
        seed: Of the experiment.
        kept: The share of the variance of good tokens that is left.
    """

    method: TrainableMethod
    theta: Params
    episodes: dict[str, EpisodeBatch]
    rates: dict[str, float]
    seed: int
    kept: float


def freeze(experiment: Experiment, directions: int) -> Frozen:
    """Open the clients of ``experiment`` and draw the episodes of which no training step is made.

    Tokens are reduced to their principal directions, those of the supports of all sites together;
    the head of the method is then as wide.

    Args:
        experiment: With a frozen backbone; ``federation.episodes`` of each client.
        directions: Channels that are left, of more.

    Raises:
        ConfigError: the backbone or its tail is trained, or the method has nothing to train.
        BayfedError: an image, the weights or the protocol is at fault.
    """
    encoder = build_encoder(experiment, resolve_device("cpu"))
    if not isinstance(encoder.tail, IdentityTail):
        raise ConfigError("backbone.trainable: head is needed")
    if directions > encoder.tail.channels:
        raise ConfigError(f"--directions: the features have {encoder.tail.channels} channels")
    factories = [Factory.open(experiment, i) for i in range(len(client_specs(experiment)))]
    drawn = {one.name: one.batch(FROZEN, 0) for one in factories if one.trains}
    centre, axes, kept = _principal(stack(list(drawn.values())).support, directions)
    episodes = {name: _reduced(batch, centre, axes) for name, batch in drawn.items()}
    method = build_method(experiment.method, replace(encoder, tail=IdentityTail(directions)))
    if not isinstance(method, TrainableMethod):
        raise ConfigError(f"method.name: {method.name} has nothing to train")
    theta = {name: value.double() for name, value in method.initial(experiment.seed).items()}
    if not moved_of(theta, experiment.method.rates):
        raise ConfigError("method.rates: every parameter has the rate 0")
    return Frozen(method, theta, episodes, dict(experiment.method.rates), experiment.seed, kept)


def _principal(tokens: Tensor, directions: int) -> tuple[Tensor, Tensor, float]:
    """Return the mean, the leading eigenvectors of the covariance and their share of it."""
    every = tokens.double().flatten(0, -2)
    variances, axes = torch.linalg.eigh(torch.cov(every.mT))
    kept = float(variances[-directions:].sum() / variances.sum())
    return every.mean(0), axes[:, -directions:], kept


def _reduced(batch: EpisodeBatch, centre: Tensor, axes: Tensor) -> EpisodeBatch:
    support, query = ((part.double() - centre) @ axes for part in (batch.support, batch.query))
    return replace(batch, support=support, query=query, labels=batch.labels.double())
