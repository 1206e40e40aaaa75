"""Inputs in a product's usual proportions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bayfed.config import Data, parse_experiment
from bayfed.data import load_sites
from bayfed.data.turned import MIRRORED, turned
from bayfed.errors import ConfigError
from bayfed.features import FeatureStore
from bayfed.features.preprocess import STEP, input_shape
from bayfed.seeds import stream


class ShapeTrunk:
    """Tells the shape that it was shown."""

    fingerprint = "a" * 64
    batch = 2

    def __init__(self):
        self.seen = []

    def __call__(self, images):
        self.seen.append(tuple(images.shape))
        return torch.tensor(images.shape[-2:], dtype=torch.float32).expand(len(images), 1, 2)


def folder(root, name, sizes):
    for number, size in enumerate(sizes):
        path = root / name / "train" / "good" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = stream(0, name, number).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(path)


def sites_of(root):
    return load_sites(Data(source="folders", root=root, layout="mvtec"), 0)


@given(ratio=st.floats(0.1, 10), size=st.sampled_from([64, 224, 448]))
def test_the_area_stays_and_the_ratio_is_kept_to_a_step(ratio, size):
    height, width = input_shape(ratio, size)
    assert height % STEP == width % STEP == 0
    assert abs(height - size * ratio**0.5) <= max(STEP / 2, STEP - size * ratio**0.5)
    assert abs(width - size / ratio**0.5) <= max(STEP / 2, STEP - size / ratio**0.5)


def test_every_picture_of_a_site_is_seen_in_the_median_proportions(tmp_path):
    folder(tmp_path, "strip", [(80, 20), (80, 20), (20, 80)])
    folder(tmp_path, "tile", [(40, 40)])
    trunk = ShapeTrunk()
    store = FeatureStore(tmp_path / "store", trunk, 64, "float32", "product")
    strip, tile = sites_of(tmp_path)
    images = (*strip.train_good, *tile.train_good, *turned(strip.train_good[0], MIRRORED))
    found = store.open(images).read([image.name for image in strip.train_good])
    assert {shape[-2:] for shape in trunk.seen} == {(128, 32), (64, 64)}
    assert {shape[0] for shape in trunk.seen} == {2}
    assert found[:, 0].tolist() == [[128, 32]] * 3
    seen = len(trunk.seen)
    store.open(images)
    assert len(trunk.seen) == seen


def test_the_same_picture_in_other_proportions_is_another_entry(tmp_path):
    folder(tmp_path, "strip", [(80, 20)])
    trunk = ShapeTrunk()
    images = sites_of(tmp_path)[0].train_good
    for aspect in ("square", "product", "square"):
        FeatureStore(tmp_path / "store", trunk, 64, "float32", aspect).open(images)
    assert [shape[-2:] for shape in trunk.seen] == [(64, 64), (128, 32)]


@pytest.mark.parametrize("setting", [{"aspect": "product"}, {"wide": {"layer": "blocks.0"}}])
def test_what_needs_a_frozen_backbone_says_so(setting):
    with pytest.raises(ConfigError, match="need"):
        parse_experiment({"backbone": setting})
