# ruff: noqa: A002, ARG001
"""A learning problem small enough to be worked out by hand: a noisy quadratic a client."""

from __future__ import annotations

import sys
import types
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from flwr.serverapp import Grid
from torch import Tensor

from bayfed.config import Experiment, parse_experiment
from bayfed.errors import DataError
from bayfed.seeds import torch_stream
from clients.app import app
from experiments.inprocess import InProcessGrid, flower_identity
from server.app import serve
from server.job import Job
from strategies.task import Params

SITES = 4


@dataclass
class ToyFactory:
    """f_c(w; xi) = mean_i 1/2 ||w - c - xi_i||^2, xi_i ~ N(0, 0.1^2); site 3 only evaluates."""

    seed: int
    client: int
    episodes: int
    shots: int = 5
    method = types.SimpleNamespace(localises=True)
    held_out = ()

    @classmethod
    def open(cls, experiment: Experiment, partition: int) -> ToyFactory:
        if experiment.name == f"unreadable-{partition}":
            raise DataError(f"site{partition}/broken.png: cannot be read")
        shots = experiment.evaluation.shots
        return cls(experiment.seed, partition, experiment.federation.episodes, shots)

    @property
    def name(self) -> str:
        return f"site{self.client}"

    @property
    def trains(self) -> bool:
        return self.client != SITES - 1

    def initial(self) -> Params:
        return {"w": torch.zeros(3), "b": torch.zeros(2)}

    def describe(self) -> dict[str, Any]:
        return {"sites": 1, "train_good": 10}

    def batch(self, round: int, step: int) -> Tensor:
        generator = torch_stream(self.seed, "batch", round, self.client, step)
        return self.client + 0.1 * torch.randn(self.episodes, 3, generator=generator)

    def loss(self, params: Params, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        loss = 0.5 * (params["w"] - batch).square().sum(dim=1).mean() + 0.0 * params["b"].sum()
        return loss, {"gap": float((params["w"] - self.client).detach().norm())}

    def inner_gain(self, params: Params, batch: Tensor) -> float:  # noqa: ARG002
        return 0.25

    def statistics(self) -> dict[str, Tensor]:
        return {"n": torch.tensor(10), "sum": torch.full((3,), 10.0 * self.client)}

    def calibrate(self, params: Params, pooled: dict[str, Tensor]) -> dict[str, Tensor]:
        scores = (self.batch(0, 0) - params["w"]).abs().double()
        if not pooled:
            return {"sum": scores.sum(), "count": torch.tensor(scores.numel())}
        scaled = scores / (pooled["sum"] / pooled["count"])
        return {"bins": torch.histc(scaled, 5, 0.0, 2.0).long()}

    def evaluate(self, params: Params, calibration: dict[str, Tensor]) -> list[dict[str, Any]]:
        gap = float((params["w"] - self.client).norm())
        row = {
            "method": "toy",
            "protocol": "standard",
            "site": self.name,
            "seed": self.seed,
            "shots": self.shots,
            "image_auroc": 1.0 / (1.0 + gap),
            "ece": float(calibration["bins"].sum()) / 1e3,
        }
        return [{**row, "draw": draw} for draw in range(2)]


def client_specs(experiment: Experiment) -> tuple[int, ...]:
    return tuple(range(SITES))


def initial_parameters(experiment: Experiment, statistics: dict[str, Tensor] | None) -> Params:
    start = torch.zeros(3) if statistics is None else statistics["sum"] / statistics["n"]
    return {"w": start.float(), "b": torch.zeros(2)}


def lr_scales(experiment: Experiment) -> dict[str, float]:
    return {}


def check_settings(experiment: Experiment) -> None:
    """There is nothing to find."""


def install(monkeypatch: Any, factory: type = ToyFactory) -> types.ModuleType:
    """Put the toy problem in the place of the real one for one test."""
    module = types.ModuleType("clients.factory")
    module.__dict__.update(
        Factory=factory,
        client_specs=client_specs,
        initial_parameters=initial_parameters,
        lr_scales=lr_scales,
        check_settings=check_settings,
    )
    monkeypatch.setitem(sys.modules, "clients.factory", module)
    monkeypatch.setattr("clients.session._open", OrderedDict())
    return module


def experiment(**federation: Any) -> Experiment:
    """Return a toy experiment of a few rounds, evaluated every second one."""
    settings = {"backend": "inprocess", "rounds": 4, "server": {"lr": 0.1}, **federation}
    return parse_experiment(
        {"name": "toy", "federation": settings, "evaluation": {"every": 2}, "device": "cpu"}
    )


def play(job: Job, grid: Grid | None = None) -> None:
    """Run ``job`` with the toy problem that is installed."""
    with flower_identity():
        serve(grid or InProcessGrid(app, SITES), job, sys.modules["clients.factory"])
