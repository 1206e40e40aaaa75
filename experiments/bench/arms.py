"""The arms of a system: what each of them trains, and which of them a system can have."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from bayfed.config import (
    Arm,
    Bench,
    Clients,
    Data,
    Evaluation,
    Experiment,
    Protocol,
    experiment_hash,
)
from bayfed.config.systems import entry_of
from bayfed.data import site_names
from bayfed.episodes import is_held_out
from bayfed.errors import ConfigError
from clients.partition import client_specs

TRAINED: tuple[Arm, ...] = ("local", "centralised", "federated", "federated+finetune")
BY_SITE: tuple[Arm, ...] = ("local", "federated+finetune")
"""Arms with parameters of their own for each factory."""


@dataclass(frozen=True, eq=False)
class Training:
    """A run whose last parameters are measured.

    Attributes:
        kind: What sets it apart from other trainings of the same system.
        experiment: Its settings, without those that only an evaluation reads.
        start: The training whose last parameters it goes on from.
    """

    kind: str
    experiment: Experiment
    start: Training | None = None

    @property
    def rounds(self) -> int:
        """Rounds of this training alone."""
        return self.experiment.federation.rounds

    @property
    def total(self) -> int:
        """Rounds that its parameters have seen."""
        return self.rounds + (self.start.total if self.start else 0)

    @cached_property
    def key(self) -> str:
        """A hash of all that its parameters depend on."""
        parts = (experiment_hash(self.experiment), self.rounds, self.start and self.start.key)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return f"{self.experiment.method.name}-{self.kind.replace('+', '-')}-{self.key}"


def possible_arms(experiment: Experiment, protocol: str) -> tuple[Arm, ...]:
    """Return the arms that a system can have under a protocol.

    Without meta-parameters there is nothing to train. A new product has no training images,
    so nothing can be tuned on them.
    """
    arms: list[Arm] = ["none"]
    if hasattr(experiment.method, "prior"):
        arms.append("prior")
    if experiment.method.trains:
        arms += [arm for arm in TRAINED if (protocol, arm) != ("new-product", TRAINED[-1])]
    return tuple(arms)


def choose_arms(
    systems: Mapping[str, Experiment], bench: Bench, protocols: Sequence[str], strict: bool
) -> dict[str, tuple[Arm, ...]]:
    """Return the arms of each system: its own, or those of the bench that it can have.

    Args:
        systems: By name.
        bench: Where the arms are asked for.
        protocols: Under which of them an arm must be possible.
        strict: Whether each arm of the bench must be possible for some system.

    Raises:
        ConfigError: an arm is asked for that cannot be had.
    """
    able = {
        name: {arm for protocol in protocols for arm in possible_arms(experiment, protocol)}
        for name, experiment in systems.items()
    }
    chosen = {}
    for name, experiment in systems.items():
        own = entry_of(bench, name).arms
        asked = bench.arms if own is None else own
        chosen[name] = tuple(arm for arm in dict.fromkeys(asked) if arm in able[name])
        wrong = [arm for arm in asked if arm not in able[name]]
        if wrong and (own is not None or not chosen[name]):
            raise _impossible(name, wrong[0], experiment, protocols)
        if experiment.federation.rounds == 0 and set(chosen[name]) & set(TRAINED):
            raise ConfigError(f"federation.rounds: {name} trains no round, so it has no such arm")
    for arm in bench.arms if strict else ():
        if not any(arm in found for found in able.values()):
            name, experiment = next(iter(systems.items()))
            raise _impossible(name, arm, experiment, protocols)
    return chosen


def _impossible(
    name: str, arm: str, experiment: Experiment, protocols: Sequence[str]
) -> ConfigError:
    able = dict.fromkeys(a for p in protocols for a in possible_arms(experiment, p))
    why = "" if experiment.method.trains else f"{experiment.method.name} has nothing to train; "
    return ConfigError(
        f"bench.arms: {name} cannot have the arm {arm!r} under {', '.join(protocols)} "
        f"({why}it can have: {', '.join(able)})"
    )


def names_of(experiment: Experiment) -> tuple[tuple[str, str], ...]:
    """Return (name, family) of the experiment's sites.

    Raises:
        ConfigError: a site or a family is not there.
        DataError: the root does not exist or holds no site.
    """
    return _names(experiment.data.model_dump_json(), experiment.seed)


def is_unseen(experiment: Experiment, site: str) -> bool:
    """Tell whether the experiment's protocol keeps ``site`` from training."""
    return is_held_out(site, dict(names_of(experiment))[site], experiment.protocol)


@lru_cache(maxsize=64)
def _names(data: str, seed: int) -> tuple[tuple[str, str], ...]:
    return site_names(Data.model_validate_json(data), seed)


def with_prior(experiment: Experiment) -> Experiment:
    """Return ``experiment`` with the prior that the factories' statistics give."""
    prior = {**experiment.method.model_dump()["prior"], "init": "empirical-bayes"}
    method = experiment.method.model_validate({**experiment.method.model_dump(), "prior": prior})
    return experiment.model_copy(update={"method": method})


def training_of(
    experiment: Experiment, arm: Arm, finetune_rounds: int, site: str = ""
) -> Training | None:
    """Return what must be trained for ``arm``; None where round 0 needs nothing of the factories.

    Args:
        experiment: The system under a protocol, with the arm's own prior.
        arm: What is asked for.
        finetune_rounds: Rounds on the own site after the federated ones.
        site: The factory, for an arm with parameters of its own for each.
    """
    if arm in ("none", "prior"):
        pools = experiment.method.pools_statistics
        return Training("statistics", _training(experiment, rounds=0)) if pools else None
    if arm == "centralised":
        return Training(arm, _centralised(experiment))
    if arm == "local":
        return Training(f"local-{site}", _alone(experiment, site))
    federated = Training("federated", _training(experiment))
    if arm == "federated":
        return federated
    alone = _alone(experiment, site, rounds=finetune_rounds)
    return Training(f"finetune-{site}", alone, start=federated)


def _training(experiment: Experiment, **changes: object) -> Experiment:
    federation = experiment.federation.model_copy(update={"backend": "inprocess", **changes})
    method = experiment.method
    # A refinement moves no meta-parameter, so systems with and without it share a training.
    refine = {"refine": type(method).model_fields["refine"].default}
    return experiment.model_copy(
        update={
            "name": "training",
            "method": method.model_copy(update=refine),
            "federation": federation,
            # What is held back from episodes is all that a training reads of it.
            "evaluation": Evaluation(calibration=experiment.evaluation.calibration),
        }
    )


def _centralised(experiment: Experiment) -> Experiment:
    """One client holds all sites and draws as many episodes a round as all of them together."""
    federation = experiment.federation
    factories = sum(bool(spec.training) for spec in client_specs(experiment))
    sampled = max(1, math.ceil(federation.fraction * factories))
    steps = {"local_steps": federation.server.local_steps * sampled}
    return _training(
        experiment,
        clients=Clients(partition="group", number=1),
        personal=(),
        server=federation.server.model_copy(update=steps),
        fraction=1.0,
    )


def _alone(experiment: Experiment, site: str, **changes: object) -> Experiment:
    """The factory of ``site`` is the only one that trains."""
    data, protocol = experiment.data, experiment.protocol
    sites: tuple[str, ...] = (site,)
    if protocol.holdout:
        # The protocol wants a site that is held out. It takes no part in training, so any one
        # will do, and the same one lets all held-out families share this training.
        names = names_of(experiment)
        family = dict(names)[site]
        other = next(name for name, kin in names if kin != family)
        sites, protocol = (site, other), Protocol(name="new-product", holdout=(other,))
    alone = experiment.model_copy(
        update={"data": data.model_copy(update={"sites": sites}), "protocol": protocol}
    )
    return _training(alone, clients=Clients(), personal=(), fraction=1.0, **changes)
