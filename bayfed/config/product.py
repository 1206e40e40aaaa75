"""The settings of a detector that starts from a backbone alone, without a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bayfed.config.experiment import Experiment, parse_experiment

SIZE = 224
STAGES = (2, 3)
"""Of strides 8 and 16 in the usual five-stage backbones."""
WIDE = {"mobilenetv2_100": "blocks.5.0.bn1"}
"""Backbone -> the layer that serves as a second view of every token."""
WIDE_WEIGHT, CONTRAST = 1.0, 0.8
"""Of the second view, and of the surroundings: about what federated training arrives at."""


def product_experiment(backbone: str, weights: Path | None, sha256: str | None) -> Experiment:
    """Return the settings with which a product is fitted where no run has trained any.

    Those of the bundled experiment ``new_product``, whose posterior was chosen for products that
    took no part in training: mirrored supports in the product's proportions, no inner step, and a
    second view where one is known for the backbone.

    Args:
        backbone: Name of a timm model.
        weights: Its local weights.
        sha256: Their content.

    Raises:
        ConfigError: a setting is wrong.

    >>> product_experiment("resnet18", None, None).method.mirrored
    True
    """
    encoder: dict[str, Any] = {
        "name": backbone, "weights": weights, "sha256": sha256, "stages": STAGES,
        "image_size": SIZE, "grid": 28, "smoothing": 3, "trainable": "head", "aspect": "product",
        "contrast": {"share": CONTRAST},
    }  # fmt: skip
    method: dict[str, Any] = {
        "mirrored": True,
        "inner": {"steps": 0},
        "prior": {"covariance": "full", "scale": 1.0, "effective": 40},
    }
    if backbone in WIDE:
        encoder["wide"] = {"layer": WIDE[backbone]}
        method["wide"] = {"weight": WIDE_WEIGHT, "top_k": 0.05}
    return parse_experiment({"name": "product", "backbone": encoder, "method": method}, "product")
