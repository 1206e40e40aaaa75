"""The systems: one file each, behind one small interface."""

from bayfed import config
from bayfed.errors import ConfigError
from bayfed.features import Encoder
from bayfed.methods.base import Method, Scores
from bayfed.methods.baypranometa import BayPrAnoMeta


def build_method(settings: config.Method, encoder: Encoder) -> Method:
    """Build the system that the experiment names.

    Raises:
        ConfigError: it cannot work on what the encoder gives.
    """
    if isinstance(settings, config.BayPrAnoMeta):
        return BayPrAnoMeta(settings, encoder)
    raise ConfigError(f"method.name: {settings.name} is not built")


__all__ = ["BayPrAnoMeta", "Method", "Scores", "build_method"]
