from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bayfed.config import Evaluation
from bayfed.episodes import Pools
from bayfed.evaluation.bench.measure import Drawn, measure_site, view_of
from bayfed.evaluation.bench.rows import pooled_law, rows_of
from bayfed.evaluation.calibrate import INVERSE, calibrate_site
from bayfed.evaluation.site import evaluate_site
from bayfed.evaluation.table import untimed
from bayfed.features import StoredFeatures
from tests import toys

SETTINGS = Evaluation(shots=3, draws=2, fpr=0.25)
CONTEXT = {"run": "b", "method": "m", "arm": "none", "protocol": "standard", "seed": 5, "round": 0}
GRID = 3


def site(key: int) -> tuple[Pools, StoredFeatures]:
    images = toys.site(train=9, test=6, defects={"hole": 4}, name=f"site{key}")
    pools = Pools(
        images.name, images.family, images.train_good, (), images.test_good, images.defects
    )
    return pools, toys.noise(pools, GRID**2, 4, key=key)


def measured(grid: int = GRID, **changes: Any) -> list[tuple[Drawn, ...]]:
    method = toys.method(4, grid)
    settings = SETTINGS.model_copy(update=changes.pop("settings", {}))
    found = []
    for key in (1, 2):
        pools, features = site(key)
        if grid == 1:
            features = toys.noise(pools, 1, 4, key=key)
        view = view_of(pools, features, 32)
        found.append(measure_site(method, method.initial(0), view, settings, 5, **changes))
    return found


def test_the_rows_are_those_of_a_federation() -> None:
    method = toys.method(4, GRID)
    params, sites = method.initial(0), [site(1), site(2)]
    pooled: dict[str, torch.Tensor] = {}
    for _ in range(2):
        sums = [calibrate_site(method, params, p, f, SETTINGS, 5, pooled) for p, f in sites]
        pooled |= {key: sums[0][key] + sums[1][key] for key in sums[0]}
    expected = [
        row
        for pools, features in sites
        for row in evaluate_site(method, params, pools, features, SETTINGS, 5, pooled, 32)
    ]
    found = measured()
    rows = rows_of(CONTEXT, found, found, SETTINGS.fpr)
    assert len(rows) == 4
    for row, other in zip(rows, expected, strict=True):
        mine = untimed(row)
        assert all(
            getattr(mine, name) == value
            for name, value in other.items()
            if name not in ("fit_seconds", "score_seconds")
        )
        assert mine.cover90 is not None
        assert mine.aupro is not None


def test_the_null_law_is_that_of_the_calibrating_sites_only() -> None:
    first, second = measured()
    alone = rows_of(CONTEXT, [first], [second], SETTINGS.fpr)
    both = rows_of(CONTEXT, [first], [first, second], SETTINGS.fpr)
    assert [row.image_auroc for row in alone] == [row.image_auroc for row in both]
    assert [row.ks for row in alone] != [row.ks for row in both]
    assert pooled_law([second])[INVERSE].item() == pytest.approx(1 / (9 - 3))
    assert rows_of(CONTEXT, [first], [], SETTINGS.fpr)[0].cover90 is None


def test_what_nobody_asks_for_is_not_scored() -> None:
    (drawn, _), _ = measured(scores=False)
    assert drawn.columns == {}
    assert drawn.score is None
    assert drawn.rest.shape == (6,)
    (drawn, _), _ = measured(calibrates=False)
    assert drawn.rest.size == 0
    assert drawn.score is not None


def test_a_law_of_its_own_stands_in_where_nothing_is_pooled() -> None:
    found = measured(grid=1)
    pooled, exact = (rows_of(CONTEXT, found, some, SETTINGS.fpr)[0] for some in (found, []))
    assert pooled.cover90 is not None
    assert exact.cover90 is not None
    assert pooled.ks != exact.ks
    assert pooled.aupro is None


def test_one_good_image_gives_scores_and_no_p_values() -> None:
    found = measured(settings={"shots": 1})
    (row, *_) = rows_of(CONTEXT, found, found, SETTINGS.fpr)
    assert row.image_auroc is not None
    assert row.cover90 is None
    method = toys.method(4, GRID)
    one = SETTINGS.model_copy(update={"shots": 1})
    assert calibrate_site(method, method.initial(0), *site(1), one, 5, {}) == {}


def test_a_draw_that_was_not_scored_gives_no_calibration() -> None:
    (drawn, _), _ = measured()
    blind = replace(drawn, score=None, defective=None)
    assert np.isfinite(blind.own).all()
    (row,) = rows_of(CONTEXT, [[blind]], [[drawn]], SETTINGS.fpr)
    assert row.cover90 is None
