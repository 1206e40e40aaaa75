from __future__ import annotations

import math
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from bayfed.config import parse_experiment
from bayfed.errors import ConfigError
from server import history
from server.job import Job
from tests import fakes


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)


def module(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    found = types.ModuleType(name)
    found.__dict__.update(members)
    monkeypatch.setitem(sys.modules, name, found)


def test_mlflow_is_told_settings_and_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[tuple[str, Any]] = []
    module(
        monkeypatch,
        "mlflow",
        start_run=lambda run_name: said.append(("run", run_name)),
        log_params=lambda params: said.append(("params", params)),
        log_metrics=lambda numbers, step: said.append(("step", (step, numbers))),
        end_run=lambda: said.append(("end", None)),
    )
    job = Job(fakes.experiment(track=["mlflow"]), tmp_path / "mine")
    fakes.play(job)
    assert said[0] == ("run", "mine")
    assert said[1][1]["federation.server.lr"] == "0.1"
    assert [what[1][0] for what in said if what[0] == "step"] == [0, 1, 2, 3, 4]
    assert said[-2][1][1]["loss"] == history.read(job.history)[-1]["loss"]
    assert all(math.isfinite(v) for what in said if what[0] == "step" for v in what[1][1].values())
    assert said[-1] == ("end", None)


def test_tensorboard_writes_beside_the_run_and_withdraws_what_is_run_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[Any] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int | None) -> None:
            said.append((Path(folder), purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            said.append((name, value, step))

        def flush(self) -> None: ...

        def close(self) -> None:
            said.append("closed")

    module(monkeypatch, "torch.utils.tensorboard", SummaryWriter=Writer)
    job = Job(fakes.experiment(track=["tensorboard"], rounds=2), tmp_path / "run")
    fakes.play(job)
    assert said[0] == (tmp_path / "run" / "tensorboard", None)
    assert ("loss", history.read(job.history)[2]["loss"], 2) in said
    assert said[-1] == "closed"
    fakes.play(Job(fakes.experiment(track=["tensorboard"], rounds=3), job.out, resume=True))
    assert (tmp_path / "run" / "tensorboard", 3) in said


def test_a_tool_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"federation\.track: mlflow is not installed"):
        fakes.play(Job(fakes.experiment(track=["mlflow"]), tmp_path))
    with pytest.raises(ConfigError, match=r"federation\.track"):
        parse_experiment({"federation": {"track": ["wandb"]}})
