"""The cells of a bench, and the measurements of sites that they are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

from bayfed.config import (
    Arm,
    Bench,
    Episode,
    Experiment,
    Federation,
    Protocol,
    experiment_hash,
)
from bayfed.episodes import check_holdout, is_held_out
from experiments.bench.arms import (
    BY_SITE,
    Training,
    names_of,
    possible_arms,
    training_of,
    with_prior,
)


@dataclass(frozen=True, eq=False)
class Measurement:
    """A site measured with one set of parameters, for all cells that need it.

    Attributes:
        experiment: The system, and the protocol as far as it decides the site's images.
        identity: The hash of it.
        training: Where the parameters come from; None = round 0.
        site: Its name.
    """

    experiment: Experiment
    identity: str
    training: Training | None
    site: str

    @cached_property
    def key(self) -> str:
        """A hash of all that its numbers depend on."""
        parts = (self.identity, self.training and self.training.key, self.site)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Cell:
    """What enters the table at once.

    Attributes:
        title: In words, for messages.
        context: The columns that its rows share.
        scored: The sites with rows.
        calibrating: The sites behind the p-values.
        draws: Rows a site.
        fpr: The stated false-positive rate.
    """

    title: str
    context: Mapping[str, Any]
    scored: tuple[Measurement, ...]
    calibrating: tuple[Measurement, ...]
    draws: int
    fpr: float

    @property
    def keys(self) -> set[tuple[Any, ...]]:
        """What identifies its rows in the table."""
        return {
            (*(self.context[name] for name in CONTEXT), measured.site, draw)
            for measured in self.scored
            for draw in range(self.draws)
        }

    def is_in(self, done: Set[tuple[Any, ...]]) -> bool:
        """Tell whether its rows are among those with the keys ``done``.

        They enter the table together, and a later draw of the same images has no row: the
        first draw stands for all.
        """
        return {key for key in self.keys if key[-1] == 0} <= done


CONTEXT = (
    "method", "variant", "arm", "protocol", "backbone", "train_sites", "seed", "shots", "noise",
    "round",
)  # fmt: skip
"""Columns that, with site and draw, tell one row of a bench from another."""


@dataclass(frozen=True)
class Named:
    """A system by its name in the bench and in the table."""

    name: str
    variant: str | None
    experiment: Experiment
    arms: tuple[Arm, ...]


def protocols_of(bench: Bench, experiment: Experiment) -> tuple[str, ...]:
    """Return the protocols of ``bench``; without any, the experiment's own."""
    return bench.protocols or (experiment.protocol.name,)


def cells(run: str, systems: Sequence[Named], bench: Bench) -> Iterator[Cell]:
    """Yield the cells of ``bench``, a replicate after the other.

    Raises:
        ConfigError: a site, a family or a partition is impossible.
        ProtocolError: the held-out names do not fit the sites.
    """
    first = systems[0].experiment
    for replicate in range(bench.seeds):
        for protocol in protocols_of(bench, first):
            for system in systems:
                seed = system.experiment.seed + replicate
                stated = system.experiment.model_copy(update={"seed": seed})
                able = possible_arms(stated, protocol)
                for arm in (arm for arm in system.arms if arm in able):
                    for settings in _settings(stated, protocol, bench):
                        yield from _cells(run, system, arm, settings, bench)


def _settings(experiment: Experiment, protocol: str, bench: Bench) -> Iterator[Experiment]:
    """Yield ``experiment`` for each held-out group, number of shots and noise."""
    usual = experiment.evaluation
    grid = list(product(bench.shots or (usual.shots,), bench.noise or (usual.noise,)))
    for stated in _protocols(experiment, protocol, bench):
        for shots, noise in grid:
            changed = {"shots": shots, "noise": noise, "heatmaps": 0, "every": 0}
            evaluation = usual.model_copy(update=changed)
            yield experiment.model_copy(update={"protocol": stated, "evaluation": evaluation})


def _protocols(experiment: Experiment, protocol: str, bench: Bench) -> list[Protocol]:
    if protocol != "new-product":
        return [Protocol.model_validate({"name": protocol})]
    names = names_of(experiment)
    own = (experiment.protocol.holdout,) if experiment.protocol.holdout else ()
    families = tuple((family,) for family in dict.fromkeys(family for _, family in names))
    groups = bench.holdouts or (own if not bench.protocols else ()) or families
    stated = [Protocol(name="new-product", holdout=group) for group in groups]
    for one in stated:
        check_holdout(names, one)
    return stated


def _cells(
    run: str, system: Named, arm: Arm, experiment: Experiment, bench: Bench
) -> Iterator[Cell]:
    if arm == "prior":
        experiment = with_prior(experiment)
    protocol, names = experiment.protocol, names_of(experiment)
    held = tuple(name for name, family in names if is_held_out(name, family, protocol))
    training = tuple(name for name, _ in names if name not in held)
    measured = _Measured(experiment, arm, bench.finetune_rounds)

    def cell(scored: Sequence[Measurement], learners: Sequence[str]) -> Cell:
        calibrating = tuple(measured(site, site) for site in learners)
        context = _context(run, system, arm, experiment, learners, scored[0].training)
        sites = "+".join(one.site for one in scored) if held or len(scored) == 1 else "all sites"
        title = f"{system.name} {arm}, {protocol.name}, {sites}, seed {experiment.seed}"
        evaluation = experiment.evaluation
        return Cell(title, context, tuple(scored), calibrating, evaluation.draws, evaluation.fpr)

    if arm == "local":
        for learner in training:
            yield cell([measured(site, learner) for site in held or (learner,)], (learner,))
    else:
        yield cell([measured(site, site) for site in held or training], training)


class _Measured:
    """Makes the measurements of one arm, and hashes what they share only once."""

    def __init__(self, experiment: Experiment, arm: Arm, finetune_rounds: int) -> None:
        self._experiment, self._arm, self._rounds = experiment, arm, finetune_rounds
        self._trainings: dict[str, Training | None] = {}
        self._shown: dict[tuple[str, ...], tuple[Experiment, str]] = {}

    def __call__(self, site: str, learner: str) -> Measurement:
        """Return the measurement of ``site`` with what ``learner`` has learned."""
        own = learner if self._arm in BY_SITE else ""
        if own not in self._trainings:
            self._trainings[own] = training_of(self._experiment, self._arm, self._rounds, own)
        protocol = shown_protocol(self._experiment, site)
        if protocol.holdout not in self._shown:
            shown = _measurable(self._experiment, protocol)
            self._shown[protocol.holdout] = (shown, experiment_hash(shown))
        return Measurement(*self._shown[protocol.holdout], self._trainings[own], site)


def shown_protocol(experiment: Experiment, site: str) -> Protocol:
    """Return the protocol as far as it decides what is measured at ``site``.

    A held-out site shows its whole test split, as it does under standard; only synthetic
    sites may have other defects when they are held out.
    """
    protocol, data = experiment.protocol, experiment.data
    if not protocol.holdout:
        return protocol
    if data.source == "synthetic" and data.synthetic.held_out_kinds:
        return Protocol(name="new-product", holdout=(site,))
    return Protocol()


def _measurable(experiment: Experiment, protocol: Protocol) -> Experiment:
    unused = {"episode": Episode(), "federation": Federation()}
    return experiment.model_copy(update={"name": "measurement", "protocol": protocol, **unused})


def _context(
    run: str,
    system: Named,
    arm: Arm,
    experiment: Experiment,
    learners: Sequence[str],
    training: Training | None,
) -> dict[str, Any]:
    return {
        "run": run,
        "method": experiment.method.name,
        "variant": system.variant,
        "grain": experiment.method.grain,
        "arm": arm,
        "protocol": experiment.protocol.name,
        "backbone": experiment.backbone.name,
        "train_sites": "+".join(sorted(learners)),
        "seed": experiment.seed,
        "shots": experiment.evaluation.shots,
        "noise": experiment.evaluation.noise or None,
        "round": training.total if training else 0,
    }
