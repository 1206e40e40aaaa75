"""Synthetic factories: determinism, variety, exact masks, difficulty."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter

from bayfed.config import Data, Synthetic
from bayfed.data import load_sites, site_names
from bayfed.data.synthetic import KINDS, products, write_sites
from bayfed.data.synthetic.camera import Camera
from bayfed.data.synthetic.canvas import Part, grid, halve, noise
from bayfed.data.synthetic.damage import SMALLEST, VISIBLE, damaged
from bayfed.data.synthetic.factory import PROCEDURES
from bayfed.errors import ConfigError, DataError
from bayfed.seeds import stream


def load(seed=0, held_out=(), **settings):
    return load_sites(Data(synthetic=Synthetic(**settings)), seed, held_out)


def drawn(index, key, seed=0, side=64):
    design = stream(seed, "synthetic", "product", index)
    return PROCEDURES[index % len(PROCEDURES)](design, stream(seed, key), (2 * side, 2 * side))


def test_first_sixteen_products_are_of_sixteen_families():
    made = products(Synthetic(products=38))
    assert len({product.family for product in made[:16]}) == 16
    assert len({product.name for product in made}) == 38
    assert made[0].family == made[19].family == "fabric"


def test_counts_names_and_types():
    (site,) = load(products=1, train_good=3, test_good=2, per_defect=2, kinds=("hole", "dent"))
    assert site.train_good[0].name == "train/good/000.png"
    assert (len(site.train_good), len(site.test_good)) == (3, 2)
    assert [image.name for image in site.defects] == [
        f"test/{kind}/{number:03d}.png" for kind in ("dent", "hole") for number in range(2)
    ]
    assert site.defect_types == ("dent", "hole")


def test_settings_select_sites_and_set_families():
    data = Data(sites=("bolt_00", "fabric_00"), families={"cloth": ("fabric_00",)})
    assert site_names(data, 0) == (("bolt_00", "bolt"), ("fabric_00", "cloth"))
    assert [site.family for site in load_sites(data, 0)] == ["bolt", "cloth"]


@pytest.mark.parametrize("held_out", ["bolt_00", "bolt"])
def test_held_out_sites_have_other_kinds(held_out):
    fields = {"products": 2, "kinds": ("hole",), "held_out_kinds": ("cut",)}
    bolt, fabric = load(held_out=(held_out,), **fields)
    assert (bolt.defect_types, fabric.defect_types) == (("cut",), ("hole",))
    bolt, fabric = load(**fields)
    assert bolt.defect_types == fabric.defect_types == ("hole",)


def test_without_held_out_kinds_the_held_out_sites_have_the_common_ones():
    bolt, _ = load(held_out=("bolt",), products=2, kinds=("hole",))
    assert bolt.defect_types == ("hole",)


@pytest.mark.parametrize("key", ["kinds", "held_out_kinds"])
def test_unknown_kind_is_named(key):
    with pytest.raises(ConfigError, match=rf"data\.synthetic\.{key}: unknown kind 'odd'"):
        load(**{key: ("odd",)})


@given(st.integers(0, 37), st.sampled_from([None, *KINDS]), st.integers(0, 2**31))
@settings(max_examples=12, deadline=None)
def test_drawing_depends_on_nothing_but_its_key(index, kind, seed):
    def one():
        name = products(Synthetic(products=38))[index].name
        data = Data(synthetic=Synthetic(products=38, size=32), sites=(name,))
        (chosen,) = load_sites(data, seed)
        return next(image for image in chosen.images if image.defect == kind)

    first, again = one(), one()
    load(products=1)[0].train_good[7].pixels()
    assert first.digest() == again.digest()
    assert (first.pixels() == again.pixels()).all()
    assert (first.mask() == again.mask()).all()


def test_what_is_returned_may_be_changed():
    image = load(products=1)[0].defects[0]
    image.pixels()[:] = 0
    image.mask()[:] = False
    assert image.pixels().any()
    assert image.mask().any()


def test_digests_tell_seed_size_and_image_apart():
    sites = [load(products=2), load(products=2, size=32), load(1, products=2)]
    digests = [image.digest() for group in sites for site in group for image in site.images]
    assert len(set(digests)) == len(digests)


def test_products_and_good_parts_differ():
    made = load(products=38, size=32)
    assert len(made) == 38
    means = {}
    for site in made:
        parts = [image.pixels().astype(float) for image in site.train_good[:3]]
        for one, other in combinations(parts, 2):
            assert np.abs(one - other).mean() > 1.0
        means[site.name] = parts[0]
    for one, other in combinations(means.values(), 2):
        assert np.abs(one - other).mean() > 3.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", range(len(PROCEDURES)))
def test_masks_cover_exactly_what_changed_before_the_camera(index, kind):
    part = drawn(index, kind)
    before = part.rgb.copy()
    picture, mask = damaged(part, stream(0, kind, index), KINDS[kind], halve)
    assert (part.rgb == before).all()
    moved = np.abs(np.clip(picture, 0, 1) - np.clip(halve(before), 0, 1)).max(axis=0) > VISIBLE
    assert not (moved & ~mask).any()
    assert not (mask & ~maximum_filter(moved, 3)).any()
    assert SMALLEST <= mask.mean() < 0.5


@pytest.mark.parametrize("size", [32, 65, 128])
def test_any_size(size):
    image = load(products=2, size=size)[0].defects[0]
    assert image.pixels().shape == (size, size, 3)
    assert image.mask().shape == image.size() == (size, size)


@pytest.mark.parametrize("kind", KINDS)
def test_painters_manage_without_a_foreground_or_contrast(kind):
    flat = Part(np.full((3, 64, 96), 0.5, np.float32), np.zeros((64, 96), np.float32))
    picture, mask = damaged(flat, stream(0, kind), KINDS[kind], lambda picture: picture)
    assert picture.shape == (3, 64, 96)
    assert np.isfinite(picture).all()
    assert mask.shape == (64, 96)


def test_noise_has_unit_variance_at_every_pixel():
    fields = np.stack([noise(stream(0, n), (24, 40), 5) for n in range(3000)])
    assert np.abs(fields.std(axis=0) - 1).max() < 0.1
    assert np.abs(fields.mean(axis=0)).max() < 0.1


def test_grid_is_square_whatever_the_shape():
    x, y = grid((10, 30))
    assert np.allclose(np.diff(x, axis=1), np.diff(y, axis=0)[0, 0])
    assert np.isclose(y.max() - y.min(), 1.8)


def test_halve_is_the_mean_of_four():
    picture = np.arange(3 * 4 * 6, dtype=np.float32).reshape(3, 4, 6)
    assert np.allclose(halve(picture), picture.reshape(3, 2, 2, 3, 2).mean(axis=(2, 4)))


def test_camera_without_lens_and_noise_is_the_tone_curve():
    camera = Camera(np.ones((3, 1, 1), np.float32), (0.0, 0.0), 0.0, 1e-9, 0.0, 2.0)
    scene = np.full((3, 8, 8), 0.25, np.float32)

    class Still:
        def normal(self, mean, deviation, size=None):  # noqa: ARG002
            return mean if size is None else np.full(size, mean)

        def standard_normal(self, shape, dtype):
            return np.zeros(shape, dtype)

    assert (camera.take(scene, Still()) == 128).all()


def test_written_sites_read_back_equal(tmp_path):
    made = load(products=2, size=32, train_good=2, test_good=2, per_defect=1, kinds=("hole",))
    assert write_sites(made, tmp_path) == 10
    read = load_sites(Data(source="folders", root=tmp_path), 0)
    for drawn_site, read_site in zip(made, read, strict=True):
        for one, other in zip(drawn_site.images, read_site.images, strict=True):
            assert (one.name, one.defect) == (other.name, other.defect)
            assert (one.pixels() == other.pixels()).all()
            assert (one.mask() == other.mask()).all()
    with pytest.raises(DataError, match="already exists"):
        write_sites(made, tmp_path)
