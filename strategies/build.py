"""From settings to an algorithm."""

from __future__ import annotations

from bayfed.config import Experiment, algorithms
from strategies.algorithm import Algorithm
from strategies.averaging import Average, Averaging
from strategies.clustered import Clustered
from strategies.ditto import Ditto
from strategies.fednova import FedNova
from strategies.fedprox import FedProx
from strategies.perfedavg import PerFedAvg
from strategies.pfedme import PFedMe
from strategies.private import Private
from strategies.scaffold import Scaffold


def algorithm_of(experiment: Experiment) -> Algorithm:
    """Return the two halves that ``experiment`` asks for."""
    settings, chosen = Averaging.of(experiment), experiment.federation.algorithm
    match chosen:
        case algorithms.FedProx():
            return FedProx(settings, chosen.mu)
        case algorithms.Scaffold():
            return Scaffold(settings)
        case algorithms.FedNova():
            return FedNova(settings)
        case algorithms.PerFedAvg():
            return PerFedAvg(settings, chosen.alpha, chosen.order, chosen.delta)
        case algorithms.Ditto():
            return Ditto(settings, chosen.pull, chosen.steps, chosen.rate)
        case algorithms.PFedMe():
            return PFedMe(settings, chosen.pull, chosen.steps, chosen.rate)
        case algorithms.Private():
            return Private(Average(settings), chosen.prefixes, chosen.rate)
        case algorithms.Clustered():
            rate = experiment.federation.server.lr
            return Clustered(settings, chosen.clusters, chosen.after, rate, chosen.metric)
        case algorithms.Average():
            return Average(settings)
