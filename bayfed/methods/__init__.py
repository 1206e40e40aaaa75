"""The systems: one file each, behind one small interface."""

from bayfed.config import Method as MethodSettings
from bayfed.features import Encoder
from bayfed.methods.base import Method, Scores
from bayfed.methods.baypranometa import BayPrAnoMeta


def build_method(settings: MethodSettings, encoder: Encoder) -> Method:
    """Build the method that the experiment names."""
    return BayPrAnoMeta(settings, encoder)


__all__ = ["BayPrAnoMeta", "Method", "Scores", "build_method"]
