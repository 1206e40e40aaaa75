from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bayfed.config import Evaluation, Experiment, experiment_hash, load_experiment
from bayfed.data import load_sites
from bayfed.data.turned import UPRIGHT, rotations, turned
from bayfed.episodes import Pools, draw_support, unseen_pools
from bayfed.errors import ProtocolError
from bayfed.evaluation.calibrate import calibrate_site
from bayfed.evaluation.checkpoint import path_of, read
from bayfed.evaluation.evaluate import Request, evaluate_run
from bayfed.evaluation.gallery import draw_gallery
from bayfed.evaluation.site import evaluate_site
from bayfed.evaluation.supports import read_support, support_pictures
from bayfed.evaluation.system import System, build_system
from bayfed.evaluation.table import read_rows, untimed
from bayfed.features import FeatureStore, StoredFeatures
from clients.factory import Factory
from tests import toys
from tests.evaluation.conftest import TREE, FinishedRun

TURNED = {"method": {"name": "anomalydino", "turns": 3}, "federation": {"rounds": 0}}


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return toys.experiment(**TURNED, store={"directory": str(tmp_path)})


def opened(experiment: Experiment) -> tuple[System, Pools, StoredFeatures]:
    pools = unseen_pools(load_sites(experiment.data, experiment.seed)[0])
    system = build_system(experiment)
    pictures = support_pictures(pools, experiment.evaluation, experiment.seed, rotations(3))
    return system, pools, system.store.open((*pools.train_good, *pools.testing, *pictures))


def test_the_pictures_are_the_turns_of_every_draw_once() -> None:
    site = toys.site(8, 2, {"crack": 1})
    pools = unseen_pools(site)
    settings = Evaluation(shots=3, draws=4)
    drawn = {image.name for draw in range(4) for image in draw_support(pools, 3, 0, draw)}
    pictures = support_pictures(pools, settings, 0, rotations(2))
    assert len({one.name for one in pictures}) == len(pictures) == 2 * len(drawn)
    assert {one.base or one.name for one in pictures} == drawn
    with pytest.raises(ProtocolError, match="shots needs 9"):
        support_pictures(pools, Evaluation(shots=9), 0, rotations(2))


def test_a_support_is_read_image_by_image_with_its_turns(experiment: Experiment) -> None:
    system, pools, features = opened(experiment)
    support = draw_support(pools, 3, experiment.seed, 0)
    found = read_support(features, support, rotations(3))
    assert found.shape[0] == 9
    for i, image in enumerate(support):
        alone = system.store.open(turned(image, rotations(3)))
        names = [picture.name for picture in turned(image, rotations(3))]
        torch.testing.assert_close(found[3 * i : 3 * i + 3], alone.read(names))
    torch.testing.assert_close(read_support(features, support, UPRIGHT), found[::3])


def test_a_site_is_calibrated_and_evaluated_with_turned_supports(experiment: Experiment) -> None:
    system, pools, features = opened(experiment)
    params, pooled = system.method.initial(0), dict[str, torch.Tensor]()
    arguments: Any = (system.method, params, pools, features, experiment.evaluation, 0)
    for _ in range(2):
        pooled |= calibrate_site(*arguments, pooled)
    (row,) = evaluate_site(*arguments, pooled, 32)
    bank = 3 * 3 * 16 * 8 * 4  # shots, turns, tokens, channels, bytes
    assert row["model_bytes"] - bank == sum(4 * v.numel() for v in params.values())
    assert row["ece"] is not None


def test_a_factory_opens_turned_supports_and_no_defects_to_train_on(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    compute = FeatureStore._compute

    def watched(store: FeatureStore, images: Any, path: Path) -> None:
        asked.extend(image.name for image in images)
        compute(store, images, path)

    monkeypatch.setattr(FeatureStore, "_compute", watched)
    factory = Factory.open(experiment, 0)
    assert sum("@" in name for name in asked) == 2 * 3
    assert not any(name.startswith("pasted") for name in asked)
    assert factory.evaluate(factory.method.initial(0), {})


@pytest.fixture(scope="module")
def run(finished: FinishedRun) -> Path:
    return finished(**TURNED)


def test_a_run_with_turned_supports_is_evaluated_again(run: Path, tmp_path: Path) -> None:
    evaluate_run(Request(run, out=tmp_path))
    found, expected = (
        {(r.arm, r.site, r.draw): untimed(r) for r in read_rows(folder / "results.csv")}
        for folder in (tmp_path, run)
    )
    assert found == expected
    assert {row.variant for row in found.values()} == {"turns 3"}


def test_the_gallery_shows_maps_of_turned_supports(run: Path) -> None:
    experiment = load_experiment(run / "config.yaml")
    snapshot = read(path_of(run / "checkpoints", 0), experiment_hash(experiment))
    gallery = draw_gallery(experiment, snapshot, load_sites(experiment.data, experiment.seed))
    assert len(gallery.cases) == 3 * TREE["evaluation"]["heatmaps"]
    assert all(case.p_value is not None for case in gallery.cases)
