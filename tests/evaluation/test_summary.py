from __future__ import annotations

import io
import math

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from bayfed.evaluation.summary import (
    last_round,
    paired_summary,
    print_summary,
    select,
    site_table,
    summary,
)
from bayfed.evaluation.table import ResultRow

BEFORE = {"nut": [0.50, 0.60], "tile": [0.70, 0.70], "wood": [0.65, 0.75]}
AFTER = {"nut": [0.80, 0.90], "tile": [0.75, 0.85], "wood": [0.90, 0.90]}


def row(site: str, arm: str, number: int, draw: int, auroc: float | None) -> ResultRow:
    return ResultRow(
        run="demo",
        method="baypranometa",
        arm=arm,
        protocol="new-product",
        site=site,
        seed=0,
        draw=draw,
        shots=5,
        round=number,
        image_auroc=auroc,
    )


def rows_of(arm: str, number: int, values: dict[str, list[float]]) -> list[ResultRow]:
    return [
        row(site, arm, number, draw, value)
        for site, draws in values.items()
        for draw, value in enumerate(draws)
    ]


@pytest.fixture
def rows() -> list[ResultRow]:
    best = {site: [1.0, 1.0] for site in BEFORE}  # a better round in between is not reported
    return (
        rows_of("none", 0, BEFORE) + rows_of("federated", 5, best) + rows_of("federated", 9, AFTER)
    )


def test_summary_averages_draws_within_a_site(rows: list[ResultRow]) -> None:
    found = summary(rows)
    assert list(found) == [("federated", 5), ("federated", 9), ("none", 0)]
    interval = found["none", 0]
    sites = [np.mean(draws) for draws in BEFORE.values()]
    reference = stats.ttest_1samp(sites, 0).confidence_interval(0.95)
    assert interval.n == 3
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high))


def test_paired_summary_compares_the_last_round_with_the_control(rows: list[ResultRow]) -> None:
    paired = paired_summary(rows)
    difference = [np.mean(AFTER[site]) - np.mean(BEFORE[site]) for site in BEFORE]
    reference = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    assert paired.mean == pytest.approx(np.mean(difference))
    assert (paired.low, paired.high) == pytest.approx((reference.low, reference.high))
    assert paired.excludes_zero == (reference.low > 0)


def test_a_site_of_one_arm_is_shown_but_not_paired(rows: list[ResultRow]) -> None:
    rows = [*rows, row("zip", "federated", 9, 0, 0.9), row("gear", "none", 0, 0, None)]
    lines = {line.site: line for line in site_table(rows)}
    assert set(lines) == {"nut", "tile", "wood", "zip"}
    assert lines["zip"].control is None
    assert lines["zip"].difference is None
    assert lines["nut"].difference == pytest.approx(0.30)
    assert paired_summary(rows).n == 3


def test_other_columns_and_arms_can_be_compared(rows: list[ResultRow]) -> None:
    assert site_table(rows, "aupro") == []
    assert math.isnan(paired_summary(rows, "aupro").mean)
    assert paired_summary(rows, trained="central").n == 0
    assert len(select(rows, arm="federated", round=9, site="nut")) == 2
    assert {r.round for r in last_round(rows, "federated")} == {9}
    assert last_round([], "federated") == []


def printed(rows: list[ResultRow]) -> str:
    console = Console(file=io.StringIO(), width=80)
    print_summary(rows, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_printed_table_ends_with_mean_and_interval(rows: list[ResultRow]) -> None:
    text = printed(rows)
    assert [word for word in text.split() if word in BEFORE] == ["nut", "tile", "wood"]
    assert "mean of 3" in text
    assert "0.650" in text  # control
    assert "+0.200" in text
    paired = paired_summary(rows)
    assert f"{paired.low:+.3f} to {paired.high:+.3f}" in text


def test_the_mean_of_one_arm_alone_is_over_all_its_sites() -> None:
    text = printed(rows_of("none", 0, BEFORE))
    assert "mean of 3" in text
    assert "0.650" in text


def test_names_of_sites_are_not_markup() -> None:
    text = printed([row("[red]nut", "none", 0, 0, 0.5)])
    assert "[red]nut" in text
    assert "no interval" in text
