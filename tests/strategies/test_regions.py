from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bayfed.config import experiment_hash
from bayfed.config.updates import Regions as Settings
from bayfed.errors import ConfigError
from server import checkpoints
from server.job import Job
from strategies.outer import Outer
from strategies.regions import Regions
from strategies.rules import weighted_mean
from strategies.server_optimizers import ServerOptimizer
from tests import fakes

NORTH_SOUTH = {"north": ("site0", "site1"), "south": ("site2", "site3")}
ALL = {"all": ("site0", "site1", "site2", "site3")}


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)


def snapshot(job: Job) -> checkpoints.Snapshot:
    found = checkpoints.latest(job.out / "checkpoints", experiment_hash(job.experiment))
    assert found is not None
    return found


def played(folder: Path, resume: bool = False, **federation: Any) -> checkpoints.Snapshot:
    job = Job(fakes.experiment(**federation), folder, resume)
    fakes.play(job)
    return snapshot(job)


def by_hand() -> Regions:
    built = Regions(Settings(sites={"n": ("a", "b"), "s": ("c",)}, every=2), outer(0.5))
    built.restore({"w": torch.tensor([0.0])}, {})
    return built


def outer(lr: float) -> Outer:
    return Outer(ServerOptimizer("sgd", lr))


def test_regions_go_their_own_way_until_they_meet() -> None:
    built = by_hand()
    updates = [{"w": torch.tensor([x])} for x in (-2.0, -4.0, -20.0)]
    mean = built.step(1, ["a", "b", "c"], updates, [1, 1, 1], weighted_mean)
    # n: 0 + .5 * 3 = 1.5, s: 0 + .5 * 20 = 10; two episodes to one
    assert built.values["n"]["w"].item() == pytest.approx(1.5)
    assert built.values["s"]["w"].item() == pytest.approx(10.0)
    assert mean.value["w"].item() == pytest.approx((2 * 1.5 + 10) / 3)
    mean = built.step(2, ["a", "b", "c"], updates, [1, 1, 1], weighted_mean)
    assert mean.value["w"].item() == pytest.approx((2 * 3 + 20) / 3)
    assert torch.equal(built.values["n"]["w"], built.values["s"]["w"])


def test_a_region_nobody_answered_for_does_not_pull_the_mean() -> None:
    built = by_hand()
    mean = built.step(1, ["c"], [{"w": torch.tensor([-20.0])}], [1], weighted_mean)
    assert mean.value["w"].item() == pytest.approx(10.0)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "yogi"])
def test_one_region_is_none(tmp_path: Path, optimizer: str) -> None:
    server = {"lr": 0.1, "optimizer": optimizer}
    plain = played(tmp_path / "plain", server=server)
    one = played(tmp_path / "one", server=server, regions={"sites": ALL, "every": 3})
    torch.testing.assert_close(one.theta, plain.theta)


def test_regions_that_meet_every_round_are_none_to_a_linear_step(tmp_path: Path) -> None:
    server = {"lr": 0.1, "optimizer": "sgd"}
    plain = played(tmp_path / "plain", server=server)
    met = played(tmp_path / "met", server=server, regions={"sites": NORTH_SOUTH, "every": 1})
    torch.testing.assert_close(met.theta, plain.theta)


def test_a_resumed_run_with_regions_is_the_same(tmp_path: Path) -> None:
    regions = {"sites": NORTH_SOUTH, "every": 3}
    whole = played(tmp_path / "whole", regions=regions)
    played(tmp_path / "parts", regions=regions, rounds=2)
    parts = played(tmp_path / "parts", regions=regions, resume=True)
    assert torch.equal(parts.theta["w"], whole.theta["w"])
    assert parts.optimizer.keys() == whole.optimizer.keys()


@pytest.mark.parametrize(
    ("federation", "reason"),
    [
        ({"regions": {"sites": {"n": ["a"], "s": ["a"]}}}, "a is in two regions"),
        ({"regions": {"sites": ALL}, "personal": ["w"]}, "federation.personal"),
        ({"regions": {"sites": ALL}, "downlink": {"bits": 8}}, "downlink.bits"),
        ({"regions": {"sites": ALL}, "server": {"memory": 0.5}}, "server.memory"),
        ({"regions": {"sites": ALL}, "clients": {"partition": "dirichlet"}}, "mixture"),
    ],
)
def test_what_does_not_go_together_is_said(federation: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        fakes.experiment(**federation)


def test_a_client_in_no_region_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="site1 is not in one region"):
        played(tmp_path, regions={"sites": {"n": ("site0", "site2", "site3")}})
