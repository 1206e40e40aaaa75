"""Encoders (a frozen trunk and a trainable tail) and the store of trunk outputs."""

from bayfed.features.encoder import Encoder, build_encoder, resolve_device
from bayfed.features.store import FeatureStore, StoredFeatures, default_directory
from bayfed.features.tail import Params

__all__ = [
    "Encoder",
    "FeatureStore",
    "Params",
    "StoredFeatures",
    "build_encoder",
    "default_directory",
    "resolve_device",
]
