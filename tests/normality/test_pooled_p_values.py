from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bayfed.errors import NumericalError, ProtocolError
from bayfed.normality import ScoreHistogram, score_histogram, standardise, support_spread
from bayfed.normality.score_histogram import BINS, HIGHEST, LOWEST
from bayfed.seeds import stream

QUICK = settings(max_examples=25, deadline=None, derandomize=True)

LAWS = {"gamma": stats.gamma(3, loc=-3), "normal": stats.norm(), "t": stats.t(5)}


def _draw(law, size, *key):
    return torch.tensor(LAWS[law].rvs(size=size, random_state=stream(0, law, *key)))


@pytest.mark.parametrize("law", sorted(LAWS))
@pytest.mark.parametrize("size", [60, 4000])
def test_p_values_of_fresh_draws_are_uniform(law, size):
    p = score_histogram(_draw(law, size)).p_value(_draw(law, 1500, "fresh")).numpy()
    effective = size * 1500 / (size + 1500)  # two samples: the pooled one errs as well
    distance = stats.kstest(p, "uniform").statistic
    assert stats.kstwobign.sf(distance * np.sqrt(effective)) > 0.01


@pytest.mark.parametrize("fpr", [0.9, 0.5, 0.05, 0.01])
def test_threshold_has_its_rate_on_fresh_draws(fpr):
    threshold = score_histogram(_draw("gamma", 4000)).quantile(fpr)
    error = np.sqrt(fpr * (1 - fpr) * (1 / 4000 + 1 / 20000))
    fresh = _draw("gamma", 20000, "fresh")
    assert float((fresh >= threshold).double().mean()) == pytest.approx(fpr, abs=4 * error + 1e-3)


def test_adding_counts_is_pooling_scores():
    scores = 5 * _draw("t", 500)
    parts = [score_histogram(part) for part in scores.split(123)]
    total = parts[0]
    for part in parts[1:]:
        total = total.add(part)
    assert torch.equal(total.counts, score_histogram(scores).counts)
    assert total.counts.shape == (BINS + 2,)


@QUICK
@given(size=st.integers(0, 300), scale=st.sampled_from([0.001, 1.0, 30.0]))
def test_p_value_is_monotone_and_never_zero(size, scale):
    histogram = score_histogram(scale * _draw("t", size))
    p = histogram.p_value(torch.linspace(-30, 60, 2000, dtype=torch.double)).numpy()
    assert (np.diff(p) <= 1e-12).all()
    assert p[0] == 1
    assert (p > 0).all()


@QUICK
@given(fpr=st.floats(1e-6, 0.9), size=st.integers(41, 400))
def test_quantile_inverts_the_p_value(fpr, size):
    histogram = score_histogram(_draw("gamma", size))
    threshold = torch.tensor([histogram.quantile(fpr)], dtype=torch.double)
    assert histogram.p_value(threshold).item() == pytest.approx(fpr, rel=1e-6)


def test_few_scores_keep_the_add_one_floor_and_refuse_lower_rates():
    histogram = score_histogram(_draw("normal", 18))
    assert histogram.p_value(torch.tensor([30.0])).item() == pytest.approx(1 / 19)
    with pytest.raises(ProtocolError, match=r"0\.05 needs more than 18 pooled scores"):
        histogram.quantile(0.05)
    assert score_histogram(_draw("normal", 19)).quantile(0.05) <= HIGHEST
    assert score_histogram(torch.zeros(0)).p_value(torch.zeros(2)).tolist() == [1.0, 1.0]


def test_exponential_tail_extrapolates_an_exponential_law():
    scores = torch.tensor(stream(0, "tail").exponential(1.5, size=5000))
    p = score_histogram(scores).p_value(torch.tensor([15.0], dtype=torch.double)).item()
    assert np.log(p) == pytest.approx(-15 / 1.5, rel=0.25)


def test_scores_beyond_the_range_are_censored_not_lost():
    heavy = score_histogram(torch.cat([_draw("normal", 100), torch.full((50,), 99.0)]))
    assert heavy.p_value(torch.tensor([HIGHEST + 5])).item() == pytest.approx(51 / 151)
    light = score_histogram(torch.full((100,), LOWEST - 1))
    assert light.p_value(torch.tensor([LOWEST - 2])).item() == 1


def test_a_score_that_is_not_finite_is_refused():
    with pytest.raises(NumericalError, match="standardised score is not finite at batch index 1"):
        score_histogram(torch.tensor([0.0, torch.nan]))


def test_p_values_keep_shape_and_type():
    p = ScoreHistogram(torch.ones(BINS + 2)).p_value(torch.zeros(2, 3))
    assert p.shape == (2, 3)
    assert p.dtype == torch.float32


def test_standardise_by_hand():
    loo = np.array([3.0, 1.0, 2.0, 8.0, 4.0])
    mad = 1.4826 * np.median(np.abs(loo - 3.0))
    spread = np.sqrt((4 * 0.5**2 + 4 * mad**2) / 8)
    result = standardise(torch.tensor([2.0, 7.0]).double(), torch.tensor(loo), pooled_spread=0.5)
    np.testing.assert_allclose(result, (np.array([2.0, 7.0]) - 3.0) / spread)


@QUICK
@given(shift=st.floats(-50, 50), scale=st.floats(0.1, 20))
def test_standardised_scores_ignore_a_sites_level_and_unit(shift, scale):
    scores, loo = _draw("gamma", 6), _draw("gamma", 5, "loo")
    before = standardise(scores, loo, pooled_spread=0.8)
    after = standardise(shift + scale * scores, shift + scale * loo, pooled_spread=0.8 * scale)
    torch.testing.assert_close(after, before, rtol=1e-7, atol=1e-7)


def test_spread_shrinks_to_the_pooled_one_and_resists_one_outlier():
    loo = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.double)
    spoiled = torch.tensor([1.0, 2.0, 3.0, 4.0, 500.0], dtype=torch.double)
    torch.testing.assert_close(support_spread(spoiled), support_spread(loo))
    trusted = standardise(torch.tensor([5.0]).double(), loo, pooled_spread=7.0, pooled_dof=1e9)
    assert trusted.item() == pytest.approx(2 / 7)
    batch = standardise(torch.zeros(2, 3).double(), torch.stack([loo, loo + 1]), pooled_spread=1.0)
    assert batch.shape == (2, 3)


@pytest.mark.parametrize("spread", [0.0, -1.0, float("nan"), float("inf")])
def test_a_pooled_spread_that_is_not_positive_is_refused(spread):
    with pytest.raises(NumericalError, match="pooled spread of scores"):
        standardise(torch.zeros(2), torch.zeros(5), pooled_spread=spread)
