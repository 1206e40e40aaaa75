from __future__ import annotations

from typing import Any

import pytest

from bayfed.config import Arm, Bench, Experiment, Protocol
from bayfed.errors import ConfigError
from experiments.bench.arms import (
    choose_arms,
    possible_arms,
    training_of,
    with_prior,
)
from tests import toys

ALL = ("none", "prior", "local", "centralised", "federated", "federated+finetune")
PATCHCORE = Experiment.model_validate(
    {"method": {"name": "patchcore"}, "federation": {"rounds": 0}}
)


def experiment(holdout: str = "", **groups: Any) -> Experiment:
    found = toys.experiment(**{"data": {"synthetic": {"products": 4}}, **groups})
    protocol = Protocol(name="new-product", holdout=(holdout,)) if holdout else Protocol()
    return found.model_copy(update={"protocol": protocol})


def test_what_has_nothing_to_train_has_one_arm() -> None:
    assert possible_arms(PATCHCORE, "standard") == ("none",)
    assert possible_arms(experiment(), "standard") == ALL
    assert possible_arms(experiment(), "new-product") == ALL[:-1]


def test_an_untrained_system_drops_the_arms_it_cannot_have() -> None:
    systems = {"bayfed": experiment(), "patchcore": PATCHCORE}
    bench = Bench(arms=("none", "federated"))
    chosen = choose_arms(systems, bench, ("standard",), strict=True)
    assert chosen == {"bayfed": ("none", "federated"), "patchcore": ("none",)}
    assert choose_arms({"patchcore": PATCHCORE}, bench, ("standard",), strict=False) == {
        "patchcore": ("none",)
    }


@pytest.mark.parametrize(
    ("bench", "systems", "protocols", "message"),
    [
        ({"arms": ["none", "federated"]}, {"patchcore": PATCHCORE}, ["standard"],
         r"patchcore cannot have the arm 'federated' .*nothing to train; it can have: none\)$"),
        ({"arms": ["federated"]}, {"bayfed": experiment(), "patchcore": PATCHCORE}, ["standard"],
         "patchcore cannot have the arm 'federated'"),
        ({"systems": {"patchcore": {"arms": ["none", "local"]}}}, {"patchcore": PATCHCORE},
         ["standard"], "patchcore cannot have the arm 'local'"),
        ({"arms": ["none", "federated+finetune"]}, {"bayfed": experiment()}, ["new-product"],
         "cannot have the arm 'federated.finetune' under new-product"),
        ({"arms": ["federated"]}, {"bayfed": experiment(federation={"rounds": 0})}, ["standard"],
         "federation.rounds: bayfed trains no round"),
    ],
)  # fmt: skip
def test_an_arm_that_cannot_be_had_is_one_line(
    bench: dict[str, Any], systems: dict[str, Experiment], protocols: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        choose_arms(systems, Bench.model_validate(bench), protocols, strict=True)
    assert "\n" not in str(caught.value)


def test_round_0_needs_the_factories_for_empirical_bayes_only() -> None:
    assert training_of(experiment(), "none", 1) is None
    prior = training_of(with_prior(experiment()), "prior", 1)
    assert prior is not None
    assert (prior.rounds, prior.total) == (0, 0)
    assert prior.experiment.method.pools_statistics


def test_evaluation_settings_do_not_make_another_training() -> None:
    shots = experiment(evaluation={"shots": 2, "draws": 3}, store={"directory": "elsewhere"})
    keys = {training_of(e, "federated", 1).key for e in (experiment(), shots)}
    assert len(keys) == 1
    others = [
        training_of(experiment(), "centralised", 1),
        training_of(experiment(federation={"rounds": 3}), "federated", 1),
        training_of(experiment(federation={"server": {"lr": 0.5}}), "federated", 1),
        training_of(experiment(holdout="bolt"), "federated", 1),
        training_of(experiment().model_copy(update={"seed": 1}), "federated", 1),
    ]
    assert len({*keys, *(other.key for other in others)}) == 6


def test_centralised_draws_as_many_episodes_as_all_factories_together() -> None:
    half = experiment(federation={"fraction": 0.5, "server": {"local_steps": 3}})
    found = training_of(half, "centralised", 1).experiment.federation
    assert found.clients.number == 1
    assert found.server.local_steps == 3 * 2  # of four factories, two are sampled
    assert found.episodes == half.federation.episodes


def test_alone_is_one_site_and_the_same_for_every_held_out_family() -> None:
    bolt, nut = experiment(holdout="bolt"), experiment(holdout="metal")
    names = {training_of(e, "local", 1, "fabric_00").key for e in (bolt, nut)}
    assert len(names) == 1
    alone = training_of(experiment(), "local", 1, "fabric_00")
    assert alone.experiment.data.sites == ("fabric_00",)
    assert alone.key not in names  # under standard, training sees no real defect


def test_finetuning_goes_on_from_the_federation() -> None:
    tuned = training_of(experiment(federation={"rounds": 7}), "federated+finetune", 2, "bolt_00")
    assert tuned.start.key == training_of(experiment(federation={"rounds": 7}), "federated", 1).key
    assert (tuned.rounds, tuned.total) == (2, 9)
    assert tuned.experiment.data.sites == ("bolt_00",)
    assert "+" not in tuned.folder


@pytest.mark.parametrize("arm", ["local", "centralised", "federated+finetune"])
def test_who_trains_without_others_has_nothing_personal(arm: Arm) -> None:
    shared = experiment(federation={"personal": ["prior"]})
    assert training_of(shared, "federated", 1).experiment.federation.personal == ("prior",)
    found = training_of(shared, arm, 1, "bolt_00")
    assert found.experiment.federation.personal == ()
    assert (found.start is None) or found.start.experiment.federation.personal == ("prior",)
