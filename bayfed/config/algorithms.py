"""Which federated algorithm a run follows (``strategies``), beside the steps of ``Server``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bayfed.config.settings import Count, NonNegative, Positive, Settings


class Average(Settings):
    """FedSGD or FedAvg, as ``server.aggregate`` says; FedAdam and FedYogi by its optimiser."""

    name: Literal["average"] = "average"


class FedProx(Settings):
    """Local steps held near where they started."""

    name: Literal["fedprox"]
    mu: NonNegative = 0.1


class Scaffold(Settings):
    """Local steps corrected by control variates."""

    name: Literal["scaffold"]


class FedNova(Settings):
    """Updates divided by the number of local steps behind them."""

    name: Literal["fednova"]


class PerFedAvg(Settings):
    """Local steps on the loss after one step of the client on its own loss."""

    name: Literal["per-fedavg"]
    alpha: Positive = 0.01
    order: Literal["exact", "hessian-free", "first"] = "exact"
    delta: Positive = 1e-3
    """Of the difference quotient of ``hessian-free``."""


class Ditto(Settings):
    """A model of each client's own beside the shared one."""

    name: Literal["ditto"]
    pull: NonNegative = 0.1
    """lambda; 0 = each client alone."""
    steps: Count = 1
    rate: Positive = 0.01


class PFedMe(Settings):
    """Local steps on the Moreau envelope of a client's loss."""

    name: Literal["pfedme"]
    pull: Positive = 1.0
    """lambda."""
    steps: Count = 5
    rate: Positive = 0.05


class Private(Settings):
    """Averaging of all but some parameters, which stay at the client."""

    name: Literal["private"]
    prefixes: Annotated[tuple[str, ...], Field(min_length=1)]
    rate: Positive = 1.0
    """Of the private parameters' step along their update; a gradient needs a learning rate."""


class Clustered(Settings):
    """Averaging within clusters of clients whose updates were alike."""

    name: Literal["clustered"]
    clusters: Count = 2
    after: Count = 1
    """The round whose updates they are formed by."""
    metric: Literal["cosine", "euclidean"] = "cosine"


Algorithm = Annotated[
    Average | FedProx | Scaffold | FedNova | PerFedAvg | Ditto | PFedMe | Private | Clustered,
    Field(discriminator="name"),
]
LOCAL = frozenset({"fedprox", "scaffold", "fednova", "per-fedavg", "pfedme"})
"""Those that are about local steps, with which an averaged gradient has nothing to do."""
