"""The function that is exported, before any exchange format has a part in it."""

import numpy as np
import pytest
import torch

from bayfed.config import parse_experiment
from bayfed.errors import ProductError
from bayfed.inference.card import DECISIONS
from bayfed.methods import Scores
from bayfed.normality import score_histogram
from bayfed.product import Box, Detector, Frame, Kind, Source
from bayfed.product.curve import curve_of
from bayfed.product.thresholds import PooledLaw, RankLaw, StudentLaw
from bayfed.product.traced import Traced, null_curve
from bayfed.seeds import stream
from tests.product.conftest import defect, good, goods, settings

PICTURES = [good(50), good(51, 97), defect(0), np.ascontiguousarray(defect(1)[:, 5:])]


def check(detector, pictures=PICTURES):
    """The traced function says what the detector says."""
    module = Traced(detector)
    for own, picture in zip(detector.score(pictures), pictures, strict=True):
        with torch.no_grad():
            found = module(torch.from_numpy(picture))
        np.testing.assert_allclose(found["score"], own.score, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found["log_odds"], own.log_odds, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found["epistemic"], own.epistemic, rtol=1e-3)
        assert DECISIONS[int(found["decision"])] == own.decision
        assert ("p_value" in found) == (own.p_value is not None)
        if own.p_value is not None:
            np.testing.assert_allclose(found["p_value"], own.p_value, rtol=2e-3)
        assert ("heatmap" in found) == (own.surprise is not None)
        if own.surprise is not None and detector.frame.roi is None:
            np.testing.assert_allclose(found["heatmap"], own.surprise, atol=2e-3)


@pytest.mark.parametrize(
    "method",
    [
        {},
        {"inner": {"steps": 1}},
        {"broad": {"law": "fixed"}},
        {"prior": {"covariance": "full", "effective": 8}},
        {"grain": "image", "mirrored": False},
        {"grain": "image", "mirrored": False, "prior": {"covariance": "full"}},
        {"relu": True},
    ],
)
def test_every_variant_says_what_its_detector_says(weights, method):
    check(Detector.fit(goods(6), settings(weights, **method)))


@pytest.mark.parametrize(
    "backbone",
    [
        {"trainable": "adapters"},
        {"trainable": "all"},
        {"name": "conv4", "weights": None, "sha256": None, "width": 8, "trainable": "all"},
        {"contrast": {"share": 0.5, "distance": 2}},
        {"aspect": "product"},
    ],
)
def test_every_encoder_is_traced_as_it_is(weights, backbone):
    tree = settings(weights).experiment.model_dump(mode="json", exclude_unset=True)
    tree["backbone"] |= backbone
    pictures = [np.ascontiguousarray(one[:, 8:]) for one in goods(6)]
    check(Detector.fit(pictures, Source(parse_experiment(tree))))


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind != Kind.POOLED])
def test_every_threshold_says_what_its_detector_says(detector, kind):
    check(detector.calibrate(goods(20, 100), fpr=0.2, kind=kind))


def test_tiles_and_a_region_are_part_of_it(source):
    frame = Frame(Box(5, 3, 50, 57), 2)
    detector = Detector.fit(goods(5), source, frame=frame)
    check(detector)
    module = Traced(detector)
    with torch.no_grad():
        found = module(torch.from_numpy(good(50)))
    outputs = detector.scores([good(50)], ["x"]).tokens
    np.testing.assert_allclose(found["heatmap"], detector.map_of(outputs[0]), atol=2e-3)


def test_tiles_of_whole_pictures_of_any_size(source):
    check(Detector.fit(goods(5), source, frame=Frame(tiles=3)))


def test_log_odds_that_defects_have_taught_are_in_it(detector):
    check(detector.calibrate(defects=[defect(i) for i in range(20, 26)]))


def test_without_a_threshold_there_is_nothing_to_export(source):
    with pytest.raises(ProductError, match="no threshold"):
        Traced(Detector.fit(goods(3), source, fpr=None))


@pytest.mark.parametrize("number", [2, 5, 40])
def test_a_table_is_the_law_of_student(number):
    own = stream(0, "own", number).normal(1.0, 0.3, number)
    law = StudentLaw(own)
    scores = torch.linspace(-40, 60, 5001).float()
    expected = law.p_value(Scores(scores, None)).clamp(min=1e-30)
    found = curve_of(law, own).p_value(scores)
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_a_table_is_the_pooled_law():
    own = stream(0, "own").normal(0, 1, 5)
    histogram = score_histogram(torch.from_numpy(stream(0, "pooled").normal(0, 1, 300)))
    law = PooledLaw(histogram, 1.0, own)
    scores = torch.linspace(-20, 30, 5001).float()
    expected = law.p_value(Scores(scores, None))
    np.testing.assert_allclose(curve_of(law, own).p_value(scores), expected, rtol=2e-5)


def test_a_table_of_ranks_has_their_steps():
    ranks = np.array([3.0, 1.0, 2.0, 2.0])
    law, scores = RankLaw(ranks, split=True), torch.tensor([0.0, 1.0, 1.5, 2.0, 2.1, 3.0, 9.0])
    found = curve_of(law, ranks).p_value(scores)
    np.testing.assert_allclose(found, law.p_value(Scores(scores, None)), rtol=1e-6)


def test_the_f_law_is_a_table_of_scores(weights):
    detector = Detector.fit(goods(6), settings(weights, grain="image", mirrored=False))
    found = detector.scores([good(50), defect(0)], ["x", "y"])
    curve = null_curve(detector)
    np.testing.assert_allclose(curve.p_value(found.image), found.p_value, rtol=1e-4)
