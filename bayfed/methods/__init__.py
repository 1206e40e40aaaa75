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
from bayfed.methods.refined import Refined, refined
from bayfed.methods.refinement import Refinement
from bayfed.methods.views import on_views

SYSTEMS: dict[type[config.System], Callable[[Any, Encoder], Method]] = {
    config.BayPrAnoMeta: on_views,
    config.ProtoNet: ProtoNet,
    config.ProtoMAML: ProtoMAML,
    config.MAML: MAML,
    config.ANIL: ANIL,
    config.Refinement: Refinement,
    config.PatchCore: PatchCore,
    config.AnomalyDINO: AnomalyDINO,
    config.PaDiM: PaDiM,
    config.Mahalanobis: Mahalanobis,
    config.PCAResidual: PCAResidual,
}


def build_method(settings: config.Method, encoder: Encoder) -> Method:
    """Build the system that the experiment names, with its refinement if there are cycles.

    Raises:
        ConfigError: it cannot work on what the encoder gives.
    """
    kind = type(settings)
    usual = kind.model_fields["refine"].default
    return refined(SYSTEMS[kind](settings, encoder), settings.refine, usual)


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
    "Refined",
    "Refinement",
    "Scores",
    "TrainableMethod",
    "build_method",
]
