from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from bayfed.evaluation.bench.compare import (
    Competitor,
    Panel,
    duel,
    over_seeds,
    paired,
    panels,
    site_means,
)
from bayfed.evaluation.table import ResultRow

SITES = ("nut", "tile", "wood")


def row(site: str, value: float | None, **changes: Any) -> ResultRow:
    base: dict[str, Any] = {
        "run": "b", "method": "padim", "arm": "none", "protocol": "standard", "site": site,
        "seed": 0, "draw": 0, "shots": 5, "round": 0, "backbone": "conv4", "image_auroc": value,
    }  # fmt: skip
    return ResultRow(**{**base, **changes})


def competitor(table: dict[tuple[int, str], list[float]]) -> Competitor:
    """Draws of each (seed, site)."""
    rows = [
        row(site, value, seed=seed, draw=draw)
        for (seed, site), draws in table.items()
        for draw, value in enumerate(draws)
    ]
    return Competitor("padim", "none", tuple(rows))


ONE = competitor(
    {(0, "nut"): [0.5, 0.7], (0, "tile"): [0.8], (1, "nut"): [0.9], (1, "tile"): [0.9, 0.5]}
)
OTHER = competitor(
    {(0, "nut"): [0.6], (0, "tile"): [0.5], (1, "nut"): [0.8], (1, "tile"): [0.3, 0.5]}
)


def test_the_interval_is_over_seeds_of_means_over_sites() -> None:
    found = over_seeds(ONE)
    seeds = [np.mean([0.6, 0.8]), np.mean([0.9, 0.7])]
    expected = stats.ttest_1samp(seeds, 0).confidence_interval(0.95)
    assert found.n == 2
    assert found.mean == pytest.approx(np.mean(seeds))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_differences_are_paired_over_sites() -> None:
    found = paired(OTHER, ONE)
    differences = [np.mean([0.6, 0.9]) - np.mean([0.6, 0.8]), np.mean([0.8, 0.7]) - 0.45]
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert found.n == 2
    assert found.mean == pytest.approx(np.mean(differences))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_only_what_both_have_met_is_paired() -> None:
    more = competitor({(0, "nut"): [0.9], (1, "nut"): [0.9], (2, "nut"): [0.0], (0, "zip"): [0.0]})
    found = paired(OTHER, more)
    assert found.n == 1
    assert found.mean == pytest.approx(0.9 - 0.7)
    assert paired(OTHER, competitor({(7, "nut"): [1.0]})).n == 0


def test_a_metric_that_was_not_measured_has_no_mean() -> None:
    assert site_means(ONE, "aupro") == {}
    assert over_seeds(ONE, "aupro").n == 0
    mixed = Competitor("padim", "none", (row("nut", 0.5), row("nut", None, draw=1)))
    assert site_means(mixed) == {"nut": 0.5}


def test_ties_count_half_in_a_duel() -> None:
    one = competitor({(0, "nut"): [0.5], (0, "tile"): [0.5], (0, "wood"): [0.9]})
    other = competitor({(0, "nut"): [0.5], (0, "tile"): [0.6], (0, "wood"): [0.8]})
    assert (duel(one, other).wins, duel(one, other).sites) == (1.5, 3)
    assert duel(other, one).wins == 1.5


def by_key(found: list[Panel]) -> dict[tuple[str, int, float | None], list[str]]:
    return {
        (panel.protocol, panel.shots, panel.noise): [one.title for one in panel.competitors]
        for panel in found
    }


def test_panels_hold_what_can_be_compared_the_best_first() -> None:
    trained = {"method": "baypranometa", "variant": "image", "arm": "federated"}
    rows = [
        *(row(site, 0.7) for site in SITES),
        *(row(site, 0.9, round=1, **trained) for site in SITES),
        *(row(site, 0.8, round=2, **trained) for site in SITES),
        *(row(site, 0.6, shots=1) for site in SITES),
        *(row(site, 0.6, noise=0.1) for site in SITES),
        *(row(site, 0.6, protocol="new-product") for site in SITES),
    ]
    assert by_key(panels(rows)) == {
        ("standard", 1, None): ["padim"],
        ("standard", 5, None): ["baypranometa image, federated", "padim"],
        ("standard", 5, 0.1): ["padim"],
        ("new-product", 5, None): ["padim"],
    }
    (panel,) = [p for p in panels(rows) if len(p.competitors) == 2]
    trained_rows = panel.competitors[0].rows
    assert {r.round for r in trained_rows} == {2}  # the last round, not the best
    assert panel.find("padim") is panel.competitors[1]
    assert panel.find("padim", "federated") is None
    assert (panel.sites, panel.seeds, panel.draws) == (list(SITES), 1, 1)
