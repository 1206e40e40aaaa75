"""bayfed's PatchCore beside anomalib's, and the time of one image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bayfed.config import Data, Experiment, Synthetic
from bayfed.data import load_sites
from bayfed.data.synthetic import write_sites
from bayfed.errors import BayfedError, ConfigError, DataError
from experiments.benchmarks import rivals, scoring
from experiments.benchmarks.measure import wide_console
from experiments.rivals import call
from experiments.rivals.anomalib_patchcore import Remembering, peak
from experiments.rivals.job import Job, Site, read
from tests import toys

SITES = [Site("nut", [["a.png"], ["b.png"]], ["c.png"])]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    drawn = Synthetic(products=2, size=32, train_good=6, test_good=3, per_defect=2, kinds=("hole",))
    write_sites(load_sites(Data(synthetic=drawn), 0), tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def small(tmp_path: Path) -> list[str]:
    return [
        "device=cpu", f"backbone.name={toys.TIMM}", "backbone.stages=[1, 2]", "data.sites=[]",
        "backbone.image_size=32", "backbone.grid=8", "data.families={}",
        f"store.directory={tmp_path / 'store'}", "store.dtype=float32",
    ]  # fmt: skip


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return toys.weights_file(tmp_path / "weights.safetensors")


@pytest.fixture
def experiment(data: Path, weights: Path, small: list[str]) -> Experiment:
    return rivals.patchcore("untrained", data, weights, "", small)


def test_a_job_is_read_as_it_was_written(experiment: Experiment, tmp_path: Path) -> None:
    job = call.job_of(experiment, SITES, threads=2)
    job.write(tmp_path / "job.json")
    assert read(tmp_path / "job.json") == job
    assert (job.coreset, job.neighbours, job.network.stages) == (0.1, 9, [1, 2])


@pytest.mark.parametrize(
    ("group", "changes", "message"),
    [
        ("backbone", {"smoothing": 5}, "anomalib's is 3"),
        ("backbone", {"weights": None}, "one file of weights"),
    ],
)
def test_what_anomalib_cannot_do_is_refused(
    experiment: Experiment, group: str, changes: dict[str, Any], message: str
) -> None:
    changed = getattr(experiment, group).model_copy(update=changes)
    with pytest.raises(ConfigError, match=message):
        call.job_of(experiment.model_copy(update={group: changed}), SITES, 1)


def test_without_its_environment_the_rival_is_named(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(call, "PYTHON", tmp_path / "none")
    with pytest.raises(ConfigError, match="make rivals"):
        call.scores_of(call.job_of(experiment, SITES, 1))


def test_drawn_images_have_no_path() -> None:
    with pytest.raises(DataError, match="name a folder"):
        rivals.paths([toys.image(1)])


def test_both_are_rated_on_the_same_images(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flat(job: Job) -> dict[str, Any]:
        sites = [
            {kind: [[0.0] * len(site.queries)] * len(site.supports) for kind in rivals.KINDS}
            for site in job.sites
        ]
        return {"library": "anomalib 0", "torch": "0", "sites": sites}

    monkeypatch.setattr(rivals, "scores_of", flat)
    rivals.compare(wide_console(), experiment, shots=2, draws=2)
    said = capsys.readouterr().out
    assert said.count("mean of 2") == 2
    assert said.count("0.500 (0.500 to 0.500)") >= 4  # scores that tell nothing


def test_maps_of_the_same_images_are_computed_once() -> None:
    seen: list[int] = []

    class Counting(nn.Module):
        def forward(self, images: Tensor) -> dict[int, Tensor]:
            seen.append(len(images))
            return {0: images}

    extractor, images = Remembering(Counting()), torch.zeros(2, 1)
    assert extractor(images) == extractor(images)
    extractor(torch.zeros(3, 1))
    assert seen == [2, 3]


def test_the_peak_is_what_is_held_at_once() -> None:
    def call() -> None:
        for _ in range(3):
            torch.zeros(250_000).sum()

    assert 1_000_000 <= peak(call) < 2_000_000


def test_one_image_is_timed_through_each_detector(
    data: Path, weights: Path, small: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(call, "PYTHON", tmp_path / "none")
    before = torch.get_num_threads()
    try:
        scoring.main(data, weights, methods="patchcore,pca", shots=2, repeats=1, settings=small)
    finally:
        torch.set_num_threads(before)
    said = capsys.readouterr().out
    assert "left out, anomalib is not installed here" in said
    assert "pca: " in said
    assert "goal at most 1.15 times the backbone" in said


@pytest.mark.skipif(not call.is_there(), reason="make rivals has not been run")
def test_with_the_whole_memory_anomalib_says_the_same(experiment: Experiment) -> None:
    whole = rivals.whole(experiment)
    view = rivals.pools_of(whole, "bolt_00")
    support = list(view.train_good[:2])
    job = call.job_of(whole, [Site("bolt_00", [rivals.paths(support)],
                                   rivals.paths(view.testing))], 1)  # fmt: skip
    (theirs,) = call.scores_of(job)["sites"][0]["whole"]
    ours = rivals.scores(whole, view, [support])[0]
    # What is left is rounding: bytes are resized here, floats there.
    np.testing.assert_allclose(ours, theirs, rtol=0.05)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99


def test_a_rival_that_fails_is_one_line(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'ValueError: no such model' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(call, "PYTHON", program)
    job = call.job_of(experiment, SITES, 1)
    with pytest.raises(BayfedError, match=r"^anomalib: ValueError: no such model$"):
        call.scores_of(job)
    with pytest.raises(BayfedError, match="without an answer"), call.serve(job):
        pass
