from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from server.job import Job
from tests import fakes
from tests.server.test_rounds import last, lines

SECURE = {"secure": {"clip": 20.0, "bits": 24}}


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)


def run(path: Path, **federation: Any) -> Job:
    job = Job(fakes.experiment(**federation), path)
    fakes.play(job)
    return job


def test_a_run_with_secure_sums_comes_to_the_same(tmp_path: Path) -> None:
    plain, secure = run(tmp_path / "plain"), run(tmp_path / "secure", **SECURE)
    a, b = last(plain), last(secure)
    torch.testing.assert_close(b.theta["w"], a.theta["w"], atol=1e-4, rtol=0)
    print(json.dumps(lines(secure)[1], indent=1))
