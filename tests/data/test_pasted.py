"""Defects painted on photographs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import maximum_filter

from bayfed.config import Data, Pasted
from bayfed.data import Site, load_sites
from bayfed.data.pasted import paste_defect, pasted_images
from bayfed.data.synthetic import KINDS, PASTED_KINDS
from bayfed.data.synthetic.damage import VISIBLE
from bayfed.errors import ConfigError, DataError
from bayfed.seeds import stream


def photo(shape, grey=False):
    pixels = stream(0, *shape).integers(40, 216, (*shape, 1 if grey else 3), dtype=np.uint8)
    return np.repeat(pixels, 3, axis=2) if grey else pixels


@pytest.fixture
def site(tmp_path):
    for split, count in (("train", 4), ("test", 1)):
        (tmp_path / split / "good").mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(photo((40, 50 + number)))
            image.save(tmp_path / split / "good" / f"{number}.png")
    return load_sites(Data(source="folders", root=tmp_path), 0)[0]


def test_kinds_are_the_synthetic_ones_and_cut_and_paste():
    assert set(PASTED_KINDS) == {*KINDS, "cutpaste"}


@given(st.sampled_from(sorted(PASTED_KINDS)), st.integers(8, 90), st.integers(8, 90))
@settings(max_examples=40, deadline=None)
def test_any_size_changes_within_the_mask_alone(kind, height, width):
    image = photo((height, width))
    kept = image.copy()
    painted, mask = paste_defect(image, stream(1, kind), kind)
    assert (image == kept).all()
    assert painted.shape == image.shape
    assert painted.dtype == np.uint8
    change = np.abs(painted.astype(int) - image).max(axis=2)
    assert mask.any()
    assert change[~mask].max(initial=0) <= 255 * VISIBLE + 1
    reach = 2 * max(1, round(min(mask.shape) / 64)) + 1
    assert not (mask & ~maximum_filter(change > 255 * VISIBLE - 1, reach)).any()


@pytest.mark.parametrize("kind", PASTED_KINDS)
def test_a_defect_on_a_grey_image_is_grey(kind):
    painted, mask = paste_defect(photo((60, 80), grey=True), stream(2, kind), kind)
    assert mask.any()
    assert (painted == painted[..., :1]).all()


def test_what_is_refused(site):
    with pytest.raises(ConfigError, match=r"data\.pasted\.kinds: unknown kind 'odd'"):
        paste_defect(photo((40, 40)), stream(0), "odd")
    with pytest.raises(ConfigError, match=r"data\.pasted\.kinds: unknown kind 'odd'"):
        pasted_images(site, Pasted(per_site=1, kinds=("odd",)), 0)
    with pytest.raises(DataError, match="5 x 40 pixels cannot hold"):
        paste_defect(photo((40, 5)), stream(0), "hole")
    with pytest.raises(DataError, match="site s: no good image"):
        pasted_images(Site("s", "s", (), (), ()), Pasted(per_site=1), 0)


def test_pasted_images_name_their_base_and_are_drawn_from_it(site):
    made = pasted_images(site, Pasted(per_site=6, kinds=("hole", "cutpaste")), seed=3)
    goods = {image.name: image for image in site.train_good}
    assert [image.name for image in made[:3]] == [
        "pasted/cutpaste/0000",
        "pasted/hole/0001",
        "pasted/cutpaste/0002",
    ]
    for image in made:
        base = goods[image.base].pixels()
        change = np.abs(image.pixels().astype(int) - base).max(axis=2) > 255 * VISIBLE + 1
        assert image.mask().any()
        assert not (change & ~image.mask()).any()
        assert image.size() == base.shape[:2]


def test_pasted_images_are_determined_by_seed_and_base(site):
    first, again, other = (pasted_images(site, Pasted(per_site=5), seed) for seed in (0, 0, 1))
    assert [image.digest() for image in first] == [image.digest() for image in again]
    assert all((a.pixels() == b.pixels()).all() for a, b in zip(first, again, strict=True))
    digests = {image.digest() for image in (*first, *other)}
    assert len(digests) == 10


def test_none_are_made_unless_asked(site):
    assert pasted_images(site, Pasted(), 0) == ()


def test_an_image_that_is_too_small_is_named_by_its_file(tmp_path):
    path = tmp_path / "train" / "good" / "dot.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(photo((1, 1))).save(path)
    (site,) = load_sites(Data(source="folders", root=tmp_path), 0)
    (painted,) = pasted_images(site, Pasted(per_site=1), 0)
    for read in (painted.pixels, painted.mask):
        with pytest.raises(DataError) as caught:
            read()
        assert str(caught.value).startswith(f"{path}: an image of 1 x 1 pixels cannot hold")
