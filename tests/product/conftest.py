"""A backbone of thirty thousand parameters, and pictures of a product that is easily told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from bayfed.config import parse_experiment
from bayfed.fingerprint import file_hash
from bayfed.product import Detector, Source
from bayfed.seeds import stream
from tests import toys

SIDE = 64


def good(number: int, side: int = SIDE) -> NDArray[np.uint8]:
    """A bright disc on a dark ground, with the noise of a camera."""
    random = stream(0, "good", number)
    y, x = np.mgrid[:side, :side] / side - 0.5
    disc = 90 + 80 * (np.hypot(y, x) < 0.35) + random.normal(0, 6, (side, side))
    return np.repeat(disc.clip(0, 255).astype(np.uint8)[..., None], 3, 2)


def defect(number: int) -> NDArray[np.uint8]:
    """The disc with a dark hole of random colour to the right."""
    picture = good(1000 + number)
    picture[24:40, 36:52] = stream(0, "defect", number).integers(0, 255, (16, 16, 3))
    return picture


def goods(number: int, first: int = 0) -> list[NDArray[np.uint8]]:
    return [good(first + i) for i in range(number)]


def settings(weights: Path, **method: Any) -> Source:
    tree = {
        "device": "cpu",
        "backbone": {
            "name": toys.TIMM, "weights": weights, "sha256": file_hash(weights), "stages": [1, 2],
            "image_size": 64, "grid": 8, "trainable": "head",
        },
        "method": {
            "inner": {"steps": 0}, "top_k": 0.05, "mirrored": True,
            "prior": {"covariance": "diagonal", "effective": 8},
        } | method,
    }  # fmt: skip
    return Source(parse_experiment(tree))


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(timm.create_model(toys.TIMM, pretrained=False).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def source(weights: Path) -> Source:
    return settings(weights)


@pytest.fixture
def detector(source: Source) -> Detector:
    return Detector.fit(goods(6), source)
