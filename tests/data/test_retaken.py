"""Images behind the camera of another factory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from bayfed.config import Pasted
from bayfed.data.pasted import pasted_images
from bayfed.data.retaken import BLUR, GAIN, GAMMA, SIGMA, Optics, RetakenSource, retaken
from bayfed.data.turned import MIRRORED, turned
from bayfed.seeds import stream
from tests import toys


def optics(**changes) -> Optics:
    return replace(Optics(1.0, 1.0, 0.0, 0.0), **changes)


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    strength=st.floats(0, 1),
    grey=st.booleans(),
    camera=st.integers(0, 20),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_picture_keeps_its_shape_and_grey_stays_grey(height, width, strength, grey, camera):
    picture = stream(camera, "picture").integers(0, 256, (height, width, 3), np.uint8)
    if grey:
        picture = np.repeat(picture[..., :1], 3, axis=2)
    kept = picture.copy()
    lens = Optics.draw(stream(camera, "lens"), strength)
    found = lens.take(picture, stream(0, "noise"))
    assert (found.shape, found.dtype) == (picture.shape, np.uint8)
    assert (picture == kept).all()
    assert not grey or (found == found[..., :1]).all()


def test_a_neutral_camera_changes_nothing():
    picture = toys.image(3).pixels()
    lens = Optics.draw(stream(0, "any"), 0.0)
    assert lens == optics()
    assert (lens.take(picture, stream(0, "noise")) == picture).all()


@given(seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_the_dial_goes_further_the_same_way_within_its_bounds(seed):
    half, whole = (Optics.draw(stream(seed, "camera"), strength) for strength in (0.5, 1.0))
    assert half.gain**2 == pytest.approx(whole.gain)
    assert half.gamma**2 == pytest.approx(whole.gamma)
    assert (2 * half.blur, 2 * half.sigma) == pytest.approx((whole.blur, whole.sigma))
    assert 1 / GAIN <= whole.gain <= GAIN
    assert 1 / GAMMA <= whole.gamma <= GAMMA
    assert 0 <= whole.blur <= BLUR
    assert 0 <= whole.sigma <= SIGMA


def test_light_tone_and_focus_are_those_of_the_formula():
    picture = toys.image(5).pixels()
    lens = optics(gain=1.3, gamma=1.2, blur=0.05)
    light = np.clip(gaussian_filter(1.3 * picture / 255, (1.6, 1.6, 0)), 0, 1) ** 1.2
    found = lens.take(picture, stream(0, "noise")).astype(int)
    assert np.abs(found - np.rint(255 * light)).max() <= 1


def test_the_sensor_noise_is_as_strong_as_it_says():
    flat = np.full((100, 100, 3), 128, np.uint8)
    flat[0, 0] = (128, 120, 110)  # no grey picture
    found = optics(sigma=0.03).take(flat, stream(0, "noise")).astype(float)
    assert found[1:].std() == pytest.approx(0.03 * 255, rel=0.03)
    assert abs(np.corrcoef(found[1:, :, 0].ravel(), found[1:, :, 1].ravel())[0, 1]) < 0.05


def test_every_factory_has_one_camera_for_all_its_images():
    images = tuple(toys.image(n) for n in range(4))
    here, there, again = (retaken(images, 1.0, 0, camera) for camera in ("a", "b", "a"))
    assert [i.name for i in here] == [i.name for i in images]
    assert len({i.source.optics for i in here}) == 1
    assert here[0].source.optics != there[0].source.optics
    assert all((a.pixels() == b.pixels()).all() for a, b in zip(here, again, strict=True))
    everywhere = {i.digest() for i in (*images, *here, *there, *retaken(images, 0.5, 0, "a"))}
    assert len(everywhere) == 16
    assert len({i.digest() for i in (*here, *retaken(images, 1.0, 1, "a"))}) == 8


def test_no_camera_gives_the_images_themselves():
    images = (toys.image(0), toys.image(1))
    assert all(a is b for a, b in zip(retaken(images, 0.0, 0, "a"), images, strict=True))


def test_painted_defects_and_turned_copies_see_the_same_camera():
    site = toys.site(5, 1, {})
    painted = pasted_images(site, Pasted(per_site=2, kinds=("hole",)), 0)
    lens = Optics.draw(stream(0, "camera", "a"), 1.0)
    for before, after in zip(painted, retaken(painted, 1.0, 0, "a"), strict=True):
        assert isinstance(after.source, RetakenSource)
        assert after.source.optics == lens
        assert (after.base, after.defect) == (before.base, "hole")
        assert (after.mask() == before.mask()).all()
        noise = stream(0, "sensor", "a", after.site, after.name)
        assert (after.pixels() == lens.take(before.pixels(), noise)).all()
    (good,) = retaken(site.train_good[:1], 1.0, 0, "a")
    _, mirrored, _ = turned(good, MIRRORED)
    assert (mirrored.pixels() == good.pixels()[:, ::-1]).all()


def test_a_mislabelled_defect_has_no_mask_behind_the_camera_either():
    (defect,) = retaken([toys.image(0, "crack")], 1.0, 0, "a")
    assert defect.mask().any()
    assert not replace(defect, defect=None).mask().any()
