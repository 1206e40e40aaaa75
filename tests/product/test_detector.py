"""Fitting a product, scoring, and what updates and calibration change."""

import numpy as np
import pytest
import torch
from PIL import Image

from bayfed.errors import ConfigError, DataError, ProductError, WeightsError
from bayfed.product import Box, Decision, Detector, Frame, Kind, Source, from_backbone
from bayfed.product.fitting import FILE_BYTES
from bayfed.product.source import build
from tests.product.conftest import defect, good, goods, settings


def numbers(inspections):
    return [(i.score, i.log_odds, i.p_value, i.epistemic, i.decision) for i in inspections]


def test_defects_score_higher_than_good_parts_and_are_found_where_they_are(detector):
    fine, broken = detector.score(goods(10, 50)), detector.score([defect(i) for i in range(5)])
    assert max(one.score for one in fine) < min(one.score for one in broken)
    assert {one.decision for one in broken} == {Decision.DEFECT}
    for one in broken:
        peak = one.regions[0]
        assert peak.x < 44 < peak.x + peak.width
        assert peak.y < 32 < peak.y + peak.height
        assert 0 < peak.area <= peak.width * peak.height


def test_what_is_said_of_an_image_depends_on_it_alone(detector):
    pictures = [*goods(3, 50), defect(0)]
    together = detector.score(pictures)
    assert numbers(together) == numbers(one for p in pictures for one in detector.score([p]))


def test_a_path_a_picture_and_an_array_are_the_same_image(detector, tmp_path):
    path = tmp_path / "part.png"
    Image.fromarray(good(50)).save(path)
    kinds = [path, str(path), Image.open(path), good(50), good(50)[..., 0]]
    assert len(set(numbers(detector.score(kinds)))) == 1


def test_a_detector_that_was_saved_scores_the_same_bit_for_bit(detector, tmp_path):
    detector.save(tmp_path / "part.bayfed")
    loaded, pictures = Detector.load(tmp_path / "part.bayfed"), [*goods(3, 50), defect(0)]
    before, after = detector.score(pictures), loaded.score(pictures)
    assert numbers(before) == numbers(after)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.surprise, other.surprise)
        assert one.regions == other.regions
    assert (loaded.promise, loaded.threshold) == (detector.promise, detector.threshold)


@pytest.mark.parametrize(
    "method",
    [{}, {"grain": "image", "mirrored": False}, {"inner": {"steps": 1}}, {"refine": {"cycles": 2}}],
)
def test_every_variant_can_be_kept(weights, tmp_path, method):
    detector = Detector.fit(goods(5), settings(weights, **method))
    detector.save(tmp_path / "part.bayfed")
    pictures = [good(50), defect(0)]
    loaded = Detector.load(tmp_path / "part.bayfed", weights)
    assert numbers(loaded.score(pictures)) == numbers(detector.score(pictures))


def test_the_file_stays_small_whatever_the_support(weights, tmp_path):
    path = tmp_path / "part.bayfed"
    source = settings(weights, prior={"covariance": "full", "effective": 8})
    Detector.fit(goods(60), source).save(path)
    assert path.stat().st_size <= FILE_BYTES


def test_an_update_is_a_fit_to_all_images(source):
    updated = Detector.fit(goods(4), source).update(goods(3, 4))
    fitted = Detector.fit(goods(7), source)
    pictures = [*goods(3, 50), defect(0)]
    scores = [[one.score for one in d.score(pictures)] for d in (updated, fitted)]
    np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-5)
    own = [d.product.calibration.own for d in (updated, fitted)]
    assert len(own[0]) == 7
    np.testing.assert_allclose(own[0][4:], own[1][4:], rtol=1e-4, atol=1e-5)


def test_an_update_promises_nothing_by_scores_of_the_law_before(detector):
    detector.calibrate(goods(39, 100), [defect(i) for i in range(4)])
    detector.update(goods(3, 6))
    assert detector.product.threshold.kind is Kind.MODEL
    assert "9 images tell" in detector.promise
    assert detector.escapes is None


def test_the_epistemic_share_falls_with_more_supports(source):
    shares = [
        np.mean([one.epistemic for one in Detector.fit(goods(k), source).score(goods(5, 50))])
        for k in (2, 20)
    ]
    assert 0 < shares[1] < shares[0] < 1


def test_without_a_threshold_nothing_is_decided(source):
    detector = Detector.fit(goods(4), source, fpr=None)
    with pytest.raises(ProductError, match="no threshold is set"):
        detector.score([good(50)])
    assert detector.calibrate(fpr=0.1).score([good(50)])


def test_more_normals_set_the_threshold_by_their_ranks(detector):
    detector.calibrate(goods(39, 100), fpr=0.05)
    assert detector.product.threshold.kind is Kind.SPLIT
    assert "whatever the law" in detector.promise
    scores = sorted(detector.product.calibration.normals)
    assert detector.threshold == scores[37]  # the 38th of 40 ranks


def test_too_few_normals_leave_a_model(detector):
    detector.calibrate(goods(10, 100), fpr=0.01)
    assert detector.product.threshold.kind is Kind.MODEL


def test_ranks_cannot_promise_less_than_they_are(detector):
    with pytest.raises(ProductError, match=r"cannot promise less than 14.3 %; 5 % needs 19"):
        detector.calibrate(kind=Kind.JACKKNIFE)


def test_defects_teach_the_log_odds_and_measure_what_escapes(detector):
    before = detector.score([good(60), defect(9)])
    detector.calibrate(defects=[defect(i) for i in range(8)])
    after = detector.score([good(60), defect(9)])
    assert [one.score for one in after] == [one.score for one in before]
    assert after[0].log_odds < 0 < after[1].log_odds
    assert (detector.escapes.mean, detector.escapes.n) == (0.0, 8)


def test_good_images_given_as_defects_are_noticed(detector):
    candidates = goods(12, 300)
    found = [one.score for one in detector.score(candidates)]
    lowest = [candidates[i] for i in np.argsort(found)[:3]]
    with pytest.raises(ProductError, match="no higher than those of good images"):
        detector.calibrate(defects=lowest)


def test_a_defect_among_the_five_is_noticed(source):
    detector = Detector.fit([*goods(4), defect(0)], source)
    assert detector.suspects == ("image 4",)
    assert Detector.fit(goods(5), source).suspects == ()


def test_region_and_tiles_are_part_of_the_product(source, tmp_path):
    frame = Frame(Box(8, 4, 48, 56), tiles=2)
    detector = Detector.fit(goods(4), source, frame=frame)
    detector.save(tmp_path / "part.bayfed")
    loaded = Detector.load(tmp_path / "part.bayfed")
    assert loaded.product.frame == frame
    seen, again = (d.score([defect(0)])[0] for d in (detector, loaded))
    assert seen.score == again.score > loaded.score([good(50)])[0].score
    peak = seen.regions[0]
    assert peak.x < 44 < peak.x + peak.width
    outside = good(50)
    outside[:, :6] = 0
    assert detector.score([outside])[0].score == detector.score([good(50)])[0].score
    with pytest.raises(DataError, match="do not hold the region 8,4,48,56"):
        detector.score([good(0, 32)])
    Image.fromarray(good(0, 32)).save(tmp_path / "small.png")
    with pytest.raises(DataError, match=r"small\.png: 32 x 32 pixels do not hold"):
        Detector.fit([good(0), tmp_path / "small.png"], source, frame=frame)


def test_after_warming_nothing_is_traced(source, monkeypatch):
    detector = Detector.fit(goods(3), source)
    detector = Detector(detector.product, build(source.experiment)).warm()
    monkeypatch.setattr(torch.jit, "trace", None)
    assert detector.score([good(50)])


def test_tiles_count_as_more_observations(source):
    params = [Detector.fit(goods(3), source, frame=Frame(tiles=n)).product.params for n in (1, 2)]
    more = params[1]["prior.log_effective"] - params[0]["prior.log_effective"]
    torch.testing.assert_close(more.exp(), torch.tensor(4.0))


def test_pictures_are_kept_only_if_asked_for(source, detector, tmp_path):
    assert detector.product.supports == ()
    keeping = Detector.fit(goods(3), source, keep_supports=True)
    keeping.save(tmp_path / "part.bayfed")
    kept = Detector.load(tmp_path / "part.bayfed").product.supports
    for one, other in zip(kept, goods(3), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("number", [0, 1])
def test_too_few_images_are_refused(source, number):
    with pytest.raises(ProductError, match="at least 2 are needed"):
        Detector.fit(goods(number), source)


def test_the_same_picture_twice_is_refused(source, detector):
    with pytest.raises(ProductError, match="the same picture"):
        Detector.fit([good(0), good(1), good(0)], source)
    with pytest.raises(ProductError, match="is there already"):
        detector.update([good(0)])
    with pytest.raises(ProductError, match="has been fitted to"):
        detector.calibrate([good(0)])


def test_a_hair_is_no_product(source):
    hair = source.experiment.backbone.model_copy(update={"aspect": "product"})
    thin = Source(source.experiment.model_copy(update={"backbone": hair}))
    with pytest.raises(DataError, match="image 0: a height of 2e\\+07 widths"):
        Detector.fit([np.full((20_000_000, 1), i, np.uint8) for i in range(2)], thin)


def test_images_of_different_sizes_are_seen_alike(source):
    mixed = [good(0, 64), good(1, 96), good(2, 128)]
    assert Detector.fit(mixed, source).score([good(50, 80)])


@pytest.mark.parametrize("fpr", [0.0, 1.0, -1.0, float("nan")])
def test_a_rate_that_is_none_is_refused(source, fpr):
    with pytest.raises(ProductError, match="fpr"):
        Detector.fit(goods(3), source, fpr=fpr)


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 4), float), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_arrays_that_are_no_picture_are_refused(detector, picture):
    with pytest.raises(DataError, match="image 0: uint8 of shape"):
        detector.score([picture])


def test_the_supports_are_no_recent_parts(source):
    seen = goods(5)
    detector = Detector.fit(seen, source)
    with pytest.raises(ProductError, match="image 9: the same picture has been fitted to"):
        detector.drift([*goods(9, 50), seen[1]])


def test_an_array_that_cannot_be_written_is_scored_without_a_warning(detector, recwarn):
    picture = good(50)
    picture.setflags(write=False)
    assert len(detector.score([picture])) == 1
    assert not [one for one in recwarn if "writable" in str(one.message)]


def test_a_backbone_needs_its_weights():
    with pytest.raises(WeightsError, match="--weights"):
        from_backbone("mobilenetv2_100")


def test_a_run_of_another_method_makes_no_product(tmp_path):
    (tmp_path / "config.yaml").write_text("method: {name: protonet}\n")
    with pytest.raises(ConfigError, match="this run trained protonet"):
        Detector.fit(goods(3), tmp_path)
