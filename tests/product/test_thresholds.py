"""Laws of good parts' scores against independent computations, and what they promise."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bayfed.errors import ProductError
from bayfed.evaluation.calibrate import added, null_sums, spread_sums
from bayfed.methods import Scores
from bayfed.normality import support_spread
from bayfed.product.calibration import Calibration
from bayfed.product.thresholds import FLaw, Kind, RankLaw, StudentLaw
from bayfed.seeds import stream

OWN = np.array([1.0, 1.4, 0.8, 1.1, 1.2])


def scores(*values):
    return Scores(torch.tensor(values, dtype=torch.double), None)


def test_the_student_law_is_the_predictive_of_a_normal_sample():
    law = StudentLaw(OWN)
    scale = OWN.std(ddof=1) * np.sqrt(1 + 1 / 5)
    threshold = OWN.mean() + scale * stats.t(4).ppf(0.95)
    np.testing.assert_allclose(law.threshold(0.05), threshold)
    np.testing.assert_allclose(law.p_value(scores(threshold)), [0.05])
    assert "5 images cannot promise less than 16.7 %" in law.promise(0.05)
    assert "cannot promise" not in law.promise(0.2)


def test_the_student_law_holds_its_rate_on_normal_scores():
    random = stream(0, "student")
    alarms = [
        random.standard_normal(50) > StudentLaw(random.standard_normal(5)).threshold(0.05)
        for _ in range(2000)
    ]
    assert abs(np.mean(alarms) - 0.05) < 0.005


@given(st.integers(4, 60), st.floats(0.02, 0.5), st.integers(0, 50))
def test_ranks_hold_their_rate_exactly(number, fpr, key):
    if number + 1 < 1 / fpr:
        return
    random = stream(key, "ranks")
    law = RankLaw(random.standard_normal(number), split=True)
    threshold = law.threshold(fpr)
    above = float(np.mean(np.append(law.scores, np.inf) > threshold))
    assert above <= fpr + 1e-9
    p = law.p_value(scores(threshold - 1e-9, threshold + 1e-9)).numpy()
    assert p[0] > p[1] - 1e-9
    assert p[1] <= fpr + 1e-9


def test_ranks_of_few_images_refuse_a_low_rate():
    with pytest.raises(ProductError, match=r"5 good images cannot promise less than 16.7 %"):
        RankLaw(OWN, split=False).threshold(0.05)
    assert "jackknife+" in RankLaw(OWN, split=False).promise(0.2)
    assert "40 %" in RankLaw(OWN, split=False).promise(0.2)


def test_the_fence_is_tukeys_and_promises_nothing():
    law = Calibration(OWN).law(Kind.FENCE, 0.05)
    low, high = np.quantile(OWN, [0.25, 0.75])
    np.testing.assert_allclose(law.threshold(0.05), high + 1.5 * (high - low))
    assert law.p_value(scores(1.0)) is None
    assert "no rate" in law.promise(0.05)


def test_the_fence_moves_with_every_image():
    fences = [Calibration(OWN[:k]).law(Kind.FENCE, 0.05).threshold(0.05) for k in (4, 5)]
    assert fences[0] != fences[1]


def pooled(sites=8, images=60):
    """The sums of sites whose scores are normal, of any location and scale."""
    random, owns, rests = stream(0, "pooled"), [], []
    for _ in range(sites):
        place, scale = random.normal(), 1.0
        owns.append(torch.from_numpy(place + scale * random.standard_normal(5)))
        rests.append(torch.from_numpy(place + scale * random.standard_normal(images)))
    spreads, sums = {}, {}
    for own in owns:
        spreads = added(spreads, spread_sums([own]))
    for own, rest in zip(owns, rests, strict=True):
        sums = added(sums, null_sums([rest], [own], spreads))
    return spreads | sums


def test_the_pooled_law_is_the_default_where_it_holds():
    calibration = Calibration(OWN, pooled=pooled(), shots=5)
    threshold = calibration.threshold(None, 0.05)
    assert threshold.kind is Kind.POOLED
    law = calibration.law(Kind.POOLED, 0.05)
    np.testing.assert_allclose(law.p_value(scores(threshold.value)), [0.05], atol=0.005)
    spread = float(support_spread(torch.from_numpy(OWN)))
    assert threshold.value > np.median(OWN) + spread
    assert "on average over products" in threshold.promise


def test_the_pooled_law_holds_at_its_number_of_shots_only():
    calibration = Calibration(OWN[:4], pooled=pooled(), shots=5)
    assert calibration.threshold(None, 0.05).kind is Kind.MODEL
    with pytest.raises(ProductError, match="made at 5 images"):
        calibration.threshold(Kind.POOLED, 0.05)


def test_images_beside_the_support_come_first():
    beside = stream(0, "beside").standard_normal(30)
    calibration = Calibration(OWN, beside, pooled(), 5)
    assert calibration.threshold(None, 0.05).kind is Kind.SPLIT
    low = calibration.threshold(None, 0.01)
    assert low.kind is Kind.MODEL
    assert "30 images tell" in low.promise


def test_the_f_law_stands_for_the_image_grain():
    law = Calibration(OWN).law(Kind.MODEL, 0.05, level=3.0)
    assert isinstance(law, FLaw)
    assert law.threshold(0.05) == 3.0
    with pytest.raises(ProductError, match=r"no level of 0\.01"):
        law.threshold(0.01)


@pytest.mark.parametrize("own", [[1.0], [2.0, 2.0, 2.0]])
def test_scores_without_a_spread_make_no_model(own):
    with pytest.raises(ProductError, match="threshold"):
        Calibration(np.array(own)).threshold(None, 0.05)
