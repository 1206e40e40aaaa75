from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bayfed.config import Experiment, experiment_hash, load_experiment
from bayfed.data import Site, load_sites
from bayfed.episodes import unseen_pools
from bayfed.evaluation.calibrate import DENSITY, INVERSE
from bayfed.evaluation.checkpoint import Snapshot, path_of, read
from bayfed.evaluation.gallery import (
    DARK,
    THRESHOLD_AT,
    Gallery,
    choose_images,
    choose_sites,
    colour_scale,
    draw_gallery,
    threshold,
)
from bayfed.normality import ScoreHistogram

Run = tuple[Experiment, Snapshot, tuple[Site, ...]]


@pytest.fixture(scope="module")
def run(standard: Path) -> Run:
    experiment = load_experiment(standard / "config.yaml")
    path = path_of(standard / "checkpoints", 4)
    sites = load_sites(experiment.data, experiment.seed)
    return experiment, read(path, experiment_hash(experiment)), sites


@pytest.fixture(scope="module")
def gallery(run: Run) -> Gallery:
    return draw_gallery(*run)


def test_each_site_shows_a_good_image_and_two_defects(run: Run, gallery: Gallery) -> None:
    assert len({case.site for case in gallery.cases}) == run[0].evaluation.heatmaps
    for site in {case.site for case in gallery.cases}:
        shown = [case.defect is None for case in gallery.cases if case.site == site]
        assert shown == [True, False, False]


def test_maps_and_scores_share_one_scale(gallery: Gallery) -> None:
    assert gallery.scale is not None
    for case in gallery.cases:
        assert case.surprise.shape == case.image.shape[:2]
        # 1 % of 16 tokens is one: the score is the highest of those that the map interpolates.
        assert case.surprise.max() <= case.score + 1e-4
        assert case.score - case.surprise.max() < 0.2 * (case.score - case.surprise.min())


def test_decisions_follow_the_p_values_and_the_threshold(run: Run, gallery: Gallery) -> None:
    fpr = run[0].evaluation.fpr
    level = threshold(run[1].calibration, fpr)
    for case in gallery.cases:
        assert case.p_value is not None
        assert case.decision == ("defective" if case.p_value <= fpr else "good")
        if level is not None:
            assert (case.score > level) == (case.p_value < fpr)


def test_the_same_settings_show_the_same_images(run: Run, gallery: Gallery) -> None:
    again = draw_gallery(*run)
    assert [case.score for case in again.cases] == [case.score for case in gallery.cases]
    assert again.scale == gallery.scale


def test_the_choice_does_not_look_at_parameters(run: Run, gallery: Gallery) -> None:
    experiment, snapshot, sites = run
    other = replace(snapshot, theta={k: v * 1.1 for k, v in snapshot.theta.items()})
    shown = draw_gallery(experiment, other, sites).cases
    assert all(np.array_equal(a.image, b.image) for a, b in zip(shown, gallery.cases, strict=True))


def test_nothing_is_drawn_where_nothing_is_wanted(run: Run) -> None:
    experiment, snapshot, sites = run
    evaluation = experiment.evaluation.model_copy(update={"heatmaps": 0})
    none = experiment.model_copy(update={"evaluation": evaluation})
    assert draw_gallery(none, snapshot, sites) == Gallery()
    assert draw_gallery(experiment, snapshot, ()) == Gallery()


def test_sites_with_masks_come_first(run: Run) -> None:
    pools = [unseen_pools(site) for site in run[2]]
    blind = replace(pools[0], test_anomalies=(), test_good=pools[0].test_good)
    assert blind.site not in {p.site for p in choose_sites([blind, *pools[1:]], 3, 0)}
    chosen = choose_sites(pools, 2, 0)
    assert chosen == choose_sites(pools, 2, 0)
    assert [p.site for p in chosen] == sorted(p.site for p in chosen)
    empty = replace(pools[0], test_anomalies=(), test_good=())
    assert choose_sites([empty], 2, 0) == []


def test_images_come_from_the_test_pools(run: Run) -> None:
    pools = unseen_pools(run[2][0])
    good, *bad = choose_images(pools, seed=5)
    assert good in pools.test_good
    assert len(bad) == 2
    assert set(bad) <= set(pools.test_anomalies)


def _pooled(counts: torch.Tensor) -> dict[str, torch.Tensor]:
    total = counts.sum()
    return {DENSITY: counts / total, INVERSE: 1 / total}


def test_the_threshold_is_the_image_threshold() -> None:
    counts = torch.zeros(502)
    counts[101:200] = 10  # 990 scores, evenly from 0 to 9.9
    level = threshold(_pooled(counts), 0.5)
    assert level == pytest.approx(ScoreHistogram(counts).quantile(0.5))
    assert level == pytest.approx(4.95, abs=0.1)
    assert threshold({}, 0.05) is None
    few = torch.zeros(502)
    few[150] = 5
    assert threshold(_pooled(few), 0.05) is None


@pytest.mark.parametrize("level", [3.0, 40.0, None])
def test_tokens_of_good_images_are_dark(level: float | None) -> None:
    tokens = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    scale = colour_scale(tokens, level)
    positions = scale.position(tokens.numpy())
    assert (positions == 0).mean() == pytest.approx(DARK, abs=0.01)
    if level is not None:
        assert scale.position(level) == pytest.approx(THRESHOLD_AT, abs=1e-3)


def test_a_site_stranger_than_the_calibration_still_has_a_scale() -> None:
    scale = colour_scale(torch.linspace(50, 60, 100), 3.0)
    assert scale.low < 3.0 < scale.high
