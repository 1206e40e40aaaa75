from __future__ import annotations

from pathlib import Path

import torch

from experiments.benchmarks import secure
from experiments.benchmarks.overhead import experiment


def test_a_round_is_measured_with_secure_sums_and_without(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    job = experiment("inprocess", 3, 1, episodes=1, width=4)
    store = job.store.model_copy(update={"directory": tmp_path})
    job = job.model_copy(update={"store": store})
    plain = secure.measure(job, 1, None)
    hidden = secure.measure(job, 1, {"clip": 10.0})
    assert [line["round"] for line in plain] == [line["round"] for line in hidden] == [2]
    assert secure.cells(hidden)[0] == "3"
    assert hidden[0]["bytes_down"] > plain[0]["bytes_down"]
    assert hidden[0]["means"]["loss"] == hidden[0]["loss"]
