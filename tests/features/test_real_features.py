"""Real weights and real photographs, where this machine has them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bayfed.config import Data
from bayfed.data import load_sites
from bayfed.features import FeatureStore, build_encoder
from bayfed.features.weights import inspect_weights
from tests import toys

SHARED = Path(__file__).parents[2].parent / "shared"
WEIGHTS = SHARED / "weights" / "mobilenetv2_100_imagenet.safetensors"
SITES = SHARED / "data" / "sites"

needs_weights = pytest.mark.skipif(not WEIGHTS.is_file(), reason="../shared/weights is not here")
needs_sites = pytest.mark.skipif(not SITES.is_dir(), reason="../shared/data is not here")


@needs_weights
def test_the_file_tells_how_its_model_was_built():
    file = inspect_weights(WEIGHTS)
    assert file.mean == file.std == (0.50196, 0.50196, 0.50196)
    assert dict(file.create) == {"pad_type": "same"}


@needs_weights
@needs_sites
def test_features_of_a_real_site_are_finite_and_tell_images_apart(tmp_path):
    data = Data(source="folders", root=SITES, layout="mvtec", sites=("bottle_mini",))
    (site,) = load_sites(data, 0)
    backbone = {
        "name": "mobilenetv2_100", "weights": str(WEIGHTS), "stages": [2, 3],
        "image_size": 224, "grid": 28, "trainable": "head",
    }  # fmt: skip
    made = build_encoder(toys.experiment(backbone=backbone), torch.device("cpu"))
    images = (*site.train_good[:2], site.defects[0])
    features = FeatureStore(tmp_path, made.trunk, 224, "float16").open(images)
    values = features.read([image.name for image in images]).float()
    assert values.shape == (3, 784, 128)
    assert values.isfinite().all()
    assert values.std(0).mean() > 0.01
