"""The systems: one file each, behind one small interface."""

from collections.abc import Callable
from typing import Any

from bayfed import config
from bayfed.features import Encoder
from bayfed.methods.anil import ANIL
from bayfed.methods.anomalydino import AnomalyDINO
from bayfed.methods.base import Method, Scores, TrainableMethod
from bayfed.methods.baypranometa import BayPrAnoMeta
from bayfed.methods.mahalanobis import Mahalanobis
from bayfed.methods.maml import MAML
from bayfed.methods.padim import PaDiM
from bayfed.methods.patchcore import PatchCore
from bayfed.methods.pca import PCAResidual
from bayfed.methods.protomaml import ProtoMAML
from bayfed.methods.protonet import ProtoNet

SYSTEMS: dict[type[config.System], Callable[[Any, Encoder], Method]] = {
    config.BayPrAnoMeta: BayPrAnoMeta,
    config.ProtoNet: ProtoNet,
    config.ProtoMAML: ProtoMAML,
    config.MAML: MAML,
    config.ANIL: ANIL,
    config.PatchCore: PatchCore,
    config.AnomalyDINO: AnomalyDINO,
    config.PaDiM: PaDiM,
    config.Mahalanobis: Mahalanobis,
    config.PCAResidual: PCAResidual,
}


def build_method(settings: config.Method, encoder: Encoder) -> Method:
    """Build the system that the experiment names.

    Raises:
        ConfigError: it cannot work on what the encoder gives.
    """
    return SYSTEMS[type(settings)](settings, encoder)


__all__ = [
    "ANIL",
    "MAML",
    "AnomalyDINO",
    "BayPrAnoMeta",
    "Mahalanobis",
    "Method",
    "PCAResidual",
    "PaDiM",
    "PatchCore",
    "ProtoMAML",
    "ProtoNet",
    "Scores",
    "TrainableMethod",
    "build_method",
]
