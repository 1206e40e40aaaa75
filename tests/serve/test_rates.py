from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bayfed.serve.rates import Rates, rates


def test_where_every_part_was_judged_the_rates_follow_a_beta_law() -> None:
    """A Dirichlet over decisions and Betas within are one Dirichlet over the six cells."""
    good, bad = {"ok": 180, "defect": 12, "review": 8}, {"ok": 3, "defect": 40, "review": 7}
    tallies = {(d, "good"): n for d, n in good.items()} | {(d, "defect"): n for d, n in bad.items()}
    found = rates(tallies)
    alarms = stats.beta(12.5, 188 + 1.0)
    escapes = stats.beta(3.5, 47 + 1.0)
    for rate, law in ((found.false_alarms, alarms), (found.escapes, escapes)):
        assert rate is not None
        assert (rate.low, rate.median, rate.high) == pytest.approx(
            tuple(law.ppf((0.025, 0.5, 0.975))), rel=0.03
        )
    assert found.false_alarms is not None
    assert (found.false_alarms.wrong, found.false_alarms.of) == (12, 200)


def test_parts_are_weighted_back_to_how_often_they_were_decided_so() -> None:
    """Half of the judged goods were called defective, but hardly any of all goods."""
    tallies = {
        ("ok", "good"): 20, ("ok", ""): 9_980, ("defect", "good"): 20, ("defect", "defect"): 80
    }  # fmt: skip
    found = rates(tallies).false_alarms
    assert found is not None
    assert found.low < 20 / 10_020 < found.high < 0.01


def test_unknown_stays_unknown() -> None:
    assert rates({("ok", ""): 50, ("defect", ""): 4}) == Rates(None, None)
    assert rates({}) == Rates(None, None)
    nobody_checked = rates({("ok", ""): 1000, ("defect", "defect"): 10}).escapes
    assert nobody_checked is not None
    assert nobody_checked.high > 0.9
    assert nobody_checked.checked == 0
    somebody = rates({("ok", ""): 990, ("ok", "good"): 10, ("defect", "defect"): 10}).escapes
    assert somebody is not None
    assert somebody.checked == 10


@settings(max_examples=20)
@given(st.lists(st.integers(0, 1000), min_size=9, max_size=9))
def test_limits_are_in_order_and_the_same_at_every_call(counts: list[int]) -> None:
    keys = [(d, v) for d in ("ok", "defect", "review") for v in ("", "good", "defect")]
    tallies = dict(zip(keys, counts, strict=True))
    found = rates(tallies)
    assert rates(dict(reversed(tallies.items()))) == found
    for rate in found:
        if rate is not None:
            assert 0 <= rate.low <= rate.median <= rate.high <= 1
