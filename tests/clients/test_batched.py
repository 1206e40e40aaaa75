from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bayfed.config import Experiment, experiment_hash, parse_experiment
from bayfed.errors import BayfedError, ConfigError
from bayfed.methods import build_method
from clients import session
from clients.factory import Factory
from experiments.run import train_in_process
from server import checkpoints
from server.job import Job
from tests import toys

ALIKE = {"rtol": 1e-5, "atol": 1e-7}


def settings(backend: str, folder: Path, **federation: Any) -> Experiment:
    server = {"optimizer": "sgd", "lr": 0.1, **federation.pop("server", {})}
    tree = {"backend": backend, "rounds": 3, "batch": 2, "server": server, **federation}
    data = {"synthetic": {"products": 3}}
    return toys.experiment(data=data, federation=tree, store={"directory": str(folder)})


def trained(experiment: Experiment, out: Path) -> tuple[dict[str, torch.Tensor], list[Any]]:
    session.close_all()
    train_in_process(Job(experiment, out, measures=False))
    snapshot = checkpoints.latest(out / "checkpoints", experiment_hash(experiment))
    assert snapshot is not None
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return snapshot.theta, [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    "federation",
    [
        {},
        {"server": {"aggregate": "parameters", "local_steps": 2, "local_lr": 0.05}},
        {"uplink": {"keep": 0.5, "select": "random"}},
        {"personal": ["prior"]},
    ],
    ids=["gradient", "parameters", "uplink", "personal"],
)
def test_batched_clients_learn_what_they_learn_one_by_one(tmp_path: Path, federation: Any) -> None:
    alone, single = trained(settings("inprocess", tmp_path, **federation), tmp_path / "alone")
    both, several = trained(settings("batched", tmp_path, **federation), tmp_path / "together")
    torch.testing.assert_close(both, alone, **ALIKE)
    assert exact(several) == exact(single)
    for ours, theirs in zip(told(several), told(single), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize(
    "federation",
    [{"uplink": {"bits": 4}}, {"downlink": {"bits": 4}}, {"secure": {"clip": 10.0}}],
)
def test_batched_updates_leave_in_the_same_form(tmp_path: Path, federation: Any) -> None:
    lines = [
        trained(settings(backend, tmp_path, **federation), tmp_path / backend)[1]
        for backend in ("inprocess", "batched")
    ]
    # Rounding may tip a coordinate over to the next level, so that only the loss is alike.
    assert exact(lines[0]) == exact(lines[1])
    losses = [[line["loss"] for line in some[1:]] for some in lines]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


@pytest.mark.parametrize("backend", ["inprocess", "batched"])
def test_a_resumed_run_goes_on_with_what_its_clients_remember(tmp_path: Path, backend: str) -> None:
    remembers: dict[str, Any] = {"uplink": {"bits": 2}}
    whole, _ = trained(settings(backend, tmp_path, **remembers), tmp_path / "whole")
    trained(settings(backend, tmp_path, **remembers, rounds=2), tmp_path / "cut")
    job = Job(settings(backend, tmp_path, **remembers), tmp_path / "cut", True, measures=False)
    session.close_all()
    train_in_process(job)
    resumed = checkpoints.latest(job.out / "checkpoints", experiment_hash(job.experiment))
    assert resumed is not None
    assert all(torch.equal(resumed.theta[name], value) for name, value in whole.items())


def exact(lines: list[Any]) -> list[Any]:
    """What floats have no part in."""
    keys = ("round", "bytes_up", "bytes_down", "sampled", "replies", "refused")
    return [[line[key] for key in keys] for line in lines]


def told(lines: list[Any]) -> list[dict[str, float]]:
    """Numbers that the clients tell."""
    return [
        {key: value for key, value in client.items() if key not in ("name", "seconds")}
        for line in lines
        for client in line["clients"]
    ]


def test_the_episodes_are_those_of_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, list[torch.Tensor]] = {}
    batch = Factory.batch

    def noted(self: Factory, round: int, step: int) -> Any:  # noqa: A002
        found = batch(self, round, step)
        drawn.setdefault(f"{self.name} {round} {step}", []).append(found.support)
        return found

    monkeypatch.setattr(Factory, "batch", noted)
    for backend in ("inprocess", "batched"):
        trained(settings(backend, tmp_path), tmp_path / backend)
    assert len(drawn) == 9
    for first, second in drawn.values():
        assert torch.equal(first, second)


def test_one_client_that_fails_does_not_take_the_others_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = Factory.batch

    def broken(self: Factory, round: int, step: int) -> Any:  # noqa: A002
        if self.name == "bolt_00":
            raise BayfedError("bolt_00/broken.png: cannot be read")
        return batch(self, round, step)

    monkeypatch.setattr(Factory, "batch", broken)
    _, lines = trained(settings("batched", tmp_path, quorum=0.5), tmp_path / "run")
    assert [line["replies"] for line in lines[1:]] == [2, 2, 2]
    assert "broken.png" in lines[1]["refused"]["bolt_00"]


@pytest.mark.parametrize(
    ("federation", "reason"),
    [
        ({"algorithm": {"name": "fedprox"}, "server": {"aggregate": "parameters"}}, "fedprox"),
        ({"server": {"unequal": 0.5}}, "server.unequal"),
        (
            {"privacy": {"level": "image", "noise": 1.0, "clip": 1.0}},
            "privacy.level: image",
        ),
    ],
)
def test_what_cannot_be_batched_is_refused_by_the_settings(federation: Any, reason: str) -> None:
    tree = {"federation": {"backend": "batched", **federation}}
    with pytest.raises(ConfigError, match=f"backend: batched cannot be combined with .*{reason}"):
        parse_experiment(tree)


def test_a_loss_that_looks_at_its_values_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = settings("batched", tmp_path)
    kind = type(build_method(experiment.method, toys.encoder(4, 4)))
    loss = kind.loss

    def looks(self: Any, params: Any, batch: Any) -> Any:
        value, parts = loss(self, params, batch)
        return (value if float(value) > 0 else -value), parts

    monkeypatch.setattr(kind, "loss", looks)
    with pytest.raises(ConfigError, match=r"federation\.backend: the loss of method baypranometa"):
        trained(experiment, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
