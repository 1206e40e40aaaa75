"""The systems: one file each, behind one small interface."""

from collections.abc import Callable
from typing import Any

from bayfed import config
from bayfed.errors import ConfigError
from bayfed.features import Encoder
from bayfed.methods.anil import ANIL
from bayfed.methods.base import Method, Scores
from bayfed.methods.baypranometa import BayPrAnoMeta
from bayfed.methods.maml import MAML
from bayfed.methods.protomaml import ProtoMAML
from bayfed.methods.protonet import ProtoNet

_SYSTEMS: dict[type[config.System], Callable[[Any, Encoder], Method]] = {
    config.BayPrAnoMeta: BayPrAnoMeta,
    config.ProtoNet: ProtoNet,
    config.ProtoMAML: ProtoMAML,
    config.MAML: MAML,
    config.ANIL: ANIL,
}


def build_method(settings: config.Method, encoder: Encoder) -> Method:
    """Build the system that the experiment names.

    Raises:
        ConfigError: it cannot work on what the encoder gives.
    """
    build = _SYSTEMS.get(type(settings))
    if build is None:
        raise ConfigError(f"method.name: {settings.name} is not built")
    return build(settings, encoder)


__all__ = [
    "ANIL",
    "MAML",
    "BayPrAnoMeta",
    "Method",
    "ProtoMAML",
    "ProtoNet",
    "Scores",
    "build_method",
]
