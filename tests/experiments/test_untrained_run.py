from __future__ import annotations

from pathlib import Path

import pytest

from bayfed.config import experiment_hash
from bayfed.evaluation.checkpoint import path_of, read
from bayfed.evaluation.evaluate import Request, evaluate_run
from bayfed.evaluation.summary import CONTROL
from bayfed.evaluation.table import read_rows, untimed
from experiments.run import start
from server import history
from server.job import Job
from tests import toys


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A run of a system behind a frozen trunk: there is not one parameter."""
    folder = tmp_path_factory.mktemp("untrained")
    experiment = toys.experiment(
        method={"name": "patchcore"},
        federation={"rounds": 0},
        backbone={"name": toys.TIMM, "trainable": "head"},
        store={"directory": str(folder / "store")},
    )
    job = Job(experiment, folder / "run", resume=False)
    start(job, clients=2)
    return job


def test_a_run_of_no_rounds_evaluates_the_control(job: Job) -> None:
    rows = read_rows(job.results)
    assert {(row.method, row.arm, row.round) for row in rows} == {("patchcore", CONTROL, 0)}
    assert len(rows) == 2
    assert all(row.cover90 is not None for row in rows)
    (line,) = history.read(job.history)
    assert line["mean_image_auroc"] is not None


def test_its_checkpoint_and_its_report_hold_no_parameters(job: Job) -> None:
    snapshot = read(path_of(job.out / "checkpoints", 0), experiment_hash(job.experiment))
    assert snapshot.theta == {}
    assert snapshot.calibration
    page = job.report.read_text(encoding="utf-8")
    assert "Nothing was trained" in page
    assert "No law of the model is asked to hold" in page


def test_it_can_be_resumed_and_evaluated_again(job: Job, tmp_path: Path) -> None:
    before = [untimed(row) for row in read_rows(job.results)]
    start(Job(job.experiment, job.out, resume=True), clients=2)
    assert [untimed(row) for row in read_rows(job.results)] == before
    evaluate_run(Request(job.out, out=tmp_path))
    assert [untimed(row) for row in read_rows(tmp_path / "results.csv")] == before
