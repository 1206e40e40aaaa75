"""The settings of an experiment: one schema, a file for each of its parts."""

from bayfed.config.data import Data, Pasted, Protocol, Synthetic
from bayfed.config.experiment import (
    Experiment,
    dump_experiment,
    experiment_hash,
    key_of,
    load_experiment,
    parse_experiment,
)
from bayfed.config.features import Backbone, Store
from bayfed.config.methods import (
    AnomalyDINO,
    BayPrAnoMeta,
    Inner,
    Loss,
    Mahalanobis,
    Method,
    PaDiM,
    PatchCore,
    PCAResidual,
    Prior,
    System,
    top_count,
)
from bayfed.config.settings import Settings
from bayfed.config.training import Clients, Episode, Evaluation, Federation, Server

__all__ = [
    "AnomalyDINO",
    "Backbone",
    "BayPrAnoMeta",
    "Clients",
    "Data",
    "Episode",
    "Evaluation",
    "Experiment",
    "Federation",
    "Inner",
    "Loss",
    "Mahalanobis",
    "Method",
    "PCAResidual",
    "PaDiM",
    "Pasted",
    "PatchCore",
    "Prior",
    "Protocol",
    "Server",
    "Settings",
    "Store",
    "Synthetic",
    "System",
    "dump_experiment",
    "experiment_hash",
    "key_of",
    "load_experiment",
    "parse_experiment",
    "top_count",
]
