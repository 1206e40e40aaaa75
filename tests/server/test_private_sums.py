"""Noise and masks together: the server learns a noised sum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bayfed.config import experiment_hash
from server import checkpoints, history
from server.job import Job
from tests import fakes

PRIVATE = {"level": "client", "delta": 0.01, "reproducible": True}


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dp_accounting", reason="dp-accounting is not installed")
    fakes.install(monkeypatch)


def played(folder: Path, privacy: dict[str, Any], **federation: Any) -> checkpoints.Snapshot:
    settings = {
        "rounds": 40,
        "server": {"lr": 0.3, "optimizer": "sgd"},
        "uplink": {"clip": 4.0},
        "privacy": {**PRIVATE, **privacy},
        **federation,
    }
    job = Job(fakes.experiment(**settings), folder)
    fakes.play(job)
    assert history.read(job.history)[-1]["epsilon"] > 0
    found = checkpoints.latest(folder / "checkpoints", experiment_hash(job.experiment))
    assert found is not None
    return found


@pytest.mark.parametrize("added_by", [{}, {"added_by": "clients", "shares": 3}])
def test_a_masked_sum_with_little_noise_is_the_mean(
    tmp_path: Path, added_by: dict[str, Any]
) -> None:
    found = played(tmp_path, {"noise": 0.01, **added_by}, secure={"clip": 8.0, "bits": 24})
    torch.testing.assert_close(found.theta["w"], torch.ones(3), atol=0.15, rtol=0)


def test_the_server_adds_the_noise_it_would_add_without_masks(tmp_path: Path) -> None:
    masked = played(tmp_path / "masked", {"noise": 1.0}, secure={"clip": 8.0, "bits": 30})
    plain = played(tmp_path / "plain", {"noise": 1.0})
    torch.testing.assert_close(masked.theta["w"], plain.theta["w"], atol=1e-3, rtol=0)
