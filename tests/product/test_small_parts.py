"""Frames, regions, decisions, suspects, log-odds and drift."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bayfed.errors import ConfigError, DataError, ProductError
from bayfed.inference.decide import decide
from bayfed.inference.frame import Box, Frame, parse_roi, placed
from bayfed.inference.inspection import Decision
from bayfed.inference.pictures import files_of, several
from bayfed.inference.regions import regions_of
from bayfed.product.drift import drift_of, summary
from bayfed.product.odds import fit_odds
from bayfed.product.suspects import suspects, suspicion
from bayfed.seeds import stream


@given(st.integers(1, 5), st.integers(16, 90), st.integers(16, 90))
def test_tiles_are_alike_and_leave_nothing_out(tiles, height, width):
    numbers = np.arange(height * width, dtype=np.uint32).view(np.uint8)[: height * width * 3]
    pixels = np.resize(numbers, (height, width, 3))
    parts = Frame(tiles=tiles).cut(pixels, "x")
    assert len(parts) == tiles**2
    assert len({part.shape for part in parts}) == 1
    marks = np.zeros((height, width, 3), np.uint8)
    for view in Frame(tiles=tiles).cut(marks, "x"):
        view += 1
    assert marks.min() >= 1


@given(st.integers(1, 4), st.integers(4, 9))
def test_a_map_put_together_keeps_every_peak(tiles, grid):
    maps = stream(tiles, "maps").standard_normal((tiles**2, grid, grid)).astype(np.float32)
    whole = Frame(tiles=tiles).together(maps)
    assert np.isfinite(whole).all()
    assert whole.max() == maps.max()


def test_a_seam_is_seen_from_both_sides():
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, 32] = 255
    left, right = Frame(tiles=2).cut(pixels, "x")[:2]
    assert left.any()
    assert right.any()


@pytest.mark.parametrize("text", ["", "1,2,3", "a,b,c,d", "1,2,3,4,5", "1.5,2,3,4"])
def test_a_region_is_four_numbers(text):
    with pytest.raises(ConfigError, match="roi"):
        parse_roi(text)


@pytest.mark.parametrize("wrong", [Box(-1, 0, 5, 5), Box(0, 0, 0, 5)])
def test_a_region_lies_in_the_image(wrong):
    with pytest.raises(ConfigError, match="roi"):
        Frame(wrong)


@pytest.mark.parametrize("tiles", [0, 17])
def test_tiles_are_limited(tiles):
    with pytest.raises(ConfigError, match="tiles"):
        Frame(tiles=tiles)


def test_tiles_need_pixels():
    with pytest.raises(DataError, match="too few for the tiles"):
        Frame(tiles=4).cut(np.zeros((2, 9, 3), np.uint8), "x.png")


def test_a_map_of_a_part_lies_where_the_part_is():
    whole = placed(np.ones((4, 4), np.float32), Box(50, 20, 40, 40), (100, 100), -1.0)
    assert whole.shape == (10, 10)
    assert (whole[2:6, 5:9] == 1).all()
    assert (whole == 1).sum() == 16


def test_two_spots_are_two_regions_in_pixels_of_the_image():
    tokens = np.zeros((10, 20), np.float32)
    tokens[2, 3], tokens[7, 15] = 2.0, 3.0
    regions = regions_of(tokens, 1.0, Box(0, 0, 400, 100))
    np.testing.assert_allclose([region.peak for region in regions], [3.0, 2.0], rtol=1e-5)
    high, low = regions
    assert high.x < 310 < high.x + high.width
    assert high.y < 75 < high.y + high.height
    assert low.x < 70 < low.x + low.width
    assert regions_of(tokens, 4.0, Box(0, 0, 400, 100)) == ()


@given(st.floats(-5, 5), st.floats(0.01, 4))
def test_without_uncertainty_nothing_is_reviewed_but_the_threshold_itself(score, variance):
    assert decide(score, 1.0, 0.0) is (
        Decision.REVIEW if score == 1.0 else Decision.DEFECT if score > 1 else Decision.OK
    )
    doubtful = decide(score, 1.0, variance) is Decision.REVIEW
    assert doubtful == (abs(score - 1.0) <= np.sqrt(variance))


def test_good_supports_are_rarely_suspected():
    random = stream(0, "suspects")
    assert np.mean([bool(suspects(random.standard_normal(5))) for _ in range(2000)]) < 0.06
    assert suspects(np.array([1.0, 5.0])) == []


@given(st.floats(0.2, 5.0))
def test_the_spread_at_other_products_is_worth_four_scores(spread: float) -> None:
    own = np.array([0.3, -0.2, 0.1, 0.9])
    p = suspicion(own, spread)
    for i, score in enumerate(own):
        others = np.delete(own, i)
        squares = ((others - others.mean()) ** 2).sum() + 4 * spread**2
        t = (score - others.mean()) / math.sqrt(squares / 6 * (1 + 1 / 3))
        assert p[i] == pytest.approx(float(stats.t.sf(t, 6)))


def test_a_known_spread_tells_a_defect_that_widens_its_own_law() -> None:
    own = np.array([0.0, 0.5, -0.5, 0.4, 2.0])
    assert suspects(own) == []
    assert suspects(own, spread=0.2) == [4]


def test_log_odds_agree_with_newtons_method():
    random = stream(0, "odds")
    good, defects = random.normal(0, 1, 40), random.normal(3, 1, 10)
    gain, bias = fit_odds(good, defects, 0.5)
    unit = np.concatenate([good, defects]).std()
    x = (np.concatenate([good, defects]) - 0.5) / unit
    y = np.repeat([0.0, 1.0], [40, 10])
    weight = np.where(y == 1, 50 / 20, 50 / 80)
    w, b = 0.0, 0.0
    for _ in range(50):
        p = 1 / (1 + np.exp(-(w * x + b)))
        gradient = np.array([(weight * (p - y) * x).sum() + w, (weight * (p - y)).sum()])
        h = weight * p * (1 - p)
        hessian = np.array([[(h * x * x).sum() + 1, (h * x).sum()], [(h * x).sum(), h.sum()]])
        w, b = np.array([w, b]) - np.linalg.solve(hessian, gradient)
    np.testing.assert_allclose([np.exp(gain) * unit, bias], [w, b], rtol=1e-3)


def test_drift_is_found_and_its_absence_is_not():
    random = stream(0, "recent")
    same, moved = random.uniform(size=60), random.uniform(0, 0.2, size=60)
    assert not drift_of(same, 3, 0.05, 40).drifted
    found = drift_of(moved, 20, 0.05, 40)
    assert found.drifted
    assert found.higher
    assert "fit anew" in found.advice
    assert "calibrate" in drift_of(1 - moved, 0, 0.05, 40).advice
    assert "60 recent parts: 33.3 % above the threshold" in summary(found)


def test_what_five_supports_leave_open_is_no_drift():
    p = stream(0, "wide").uniform(0, 0.75, size=60)
    assert drift_of(p, 3, 0.05, 500).drifted
    assert not drift_of(p, 3, 0.05, 5).drifted


def test_drift_needs_some_images():
    with pytest.raises(ProductError, match="at least 5"):
        drift_of(np.ones(4), 0, 0.05, 5)


def test_files_are_those_of_folders_and_those_named(tmp_path):
    for name in ("b.png", "a.jpg", "note.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in files_of([tmp_path, tmp_path / "note.txt"])] == [
        "a.jpg", "b.png", "note.txt",
    ]  # fmt: skip
    with pytest.raises(DataError, match="no such file"):
        files_of([tmp_path / "missing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image in this folder"):
        files_of([tmp_path / "empty"])


def test_a_line_s_folder_is_looked_through_and_no_link_is_followed(tmp_path):
    (tmp_path / "monday" / "late").mkdir(parents=True)
    for name in ("b.png", "monday/a.png", "monday/late/c.jpg", "monday/note.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "monday" / "up").symlink_to(tmp_path)
    found = files_of([tmp_path], below=True)
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ["b.png", "monday/a.png", "monday/late/c.jpg"]


def test_more_alarms_than_promised_are_told_where_drift_cannot_be_proven():
    p = stream(0, "wide").uniform(0, 0.75, size=60)
    found = drift_of(p, 20, 0.05, 5)
    assert not found.drifted
    assert "more parts are above the threshold than promised" in found.advice
    assert "more parts" not in drift_of(p, 3, 0.05, 5).advice


@pytest.mark.parametrize("one", ["a.png", Path("goods"), np.zeros((4, 5, 3), np.uint8)])
def test_a_single_image_is_no_list_of_images(one):
    with pytest.raises(DataError, match="a list of images is expected"):
        several(one)


def test_an_array_of_images_is_a_list_of_them():
    assert len(several(np.zeros((2, 4, 5, 3), np.uint8))) == 2
