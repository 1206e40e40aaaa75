"""The section ``study`` of an experiment file: which strategies meet which differences."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, ValidationError, model_validator

from bayfed.config.bench import Name
from bayfed.config.settings import Count, NonNegative, Positive, Settings
from bayfed.config.training import Noise
from bayfed.errors import ConfigError

Share = Annotated[float, Field(gt=0, le=1)]


class _Outer(Settings):
    optimizer: Literal["sgd", "adam", "yogi"] = "sgd"
    """Of the server; FedAdam and FedYogi are fedavg with theirs."""
    lr: Positive = 1.0
    """Rate of the server."""


class FedSgd(_Outer):
    """One gradient a round."""

    algorithm: Literal["fedsgd"] = "fedsgd"
    batches: Count = 1
    """Averaged into the gradient of a client."""


class _Local(_Outer):
    local_steps: Count = 1
    """K."""
    local_lr: Positive = 0.01
    """eta_l."""


class FedAvg(_Local):
    """Local steps, averaged."""

    algorithm: Literal["fedavg"]


class FedProx(_Local):
    """Held near where they started."""

    algorithm: Literal["fedprox"]
    mu: NonNegative = 0.1


class Scaffold(_Local):
    """Corrected by control variates."""

    algorithm: Literal["scaffold"]


class FedNova(_Local):
    """Divided by their number."""

    algorithm: Literal["fednova"]


class PerFedAvg(_Local):
    """On the loss after an inner step."""

    algorithm: Literal["per-fedavg"]
    alpha: Positive = 0.01
    order: Literal["exact", "hessian-free", "first"] = "exact"
    delta: Positive = 1e-3


class Ditto(_Local):
    """With a model of each client's own beside the shared one."""

    algorithm: Literal["ditto"]
    pull: NonNegative = 0.1
    """lambda."""
    steps: Count = 1
    rate: Positive = 0.01


class PFedMe(_Local):
    """On the Moreau envelope."""

    algorithm: Literal["pfedme"]
    pull: Positive = 1.0
    """lambda."""
    steps: Count = 5
    rate: Positive = 0.05


class Private(_Local):
    """FedAvg of all but the private parameters."""

    algorithm: Literal["private"]
    prefixes: Annotated[tuple[str, ...], Field(min_length=1)]


class Clustered(_Local):
    """FedAvg within clusters of factories that are alike."""

    algorithm: Literal["clustered"]
    clusters: Count = 2
    after: Count = 1
    by: Literal["updates", "statistics"] = "updates"

    @model_validator(mode="after")
    def _of_sgd(self) -> Clustered:
        if self.optimizer != "sgd":
            raise ValueError("optimizer: clusters step with sgd")
        return self


Strategy = Annotated[
    FedSgd | FedAvg | FedProx | Scaffold | FedNova | PerFedAvg | Ditto | PFedMe | Private
    | Clustered,
    Field(discriminator="algorithm"),
]  # fmt: skip


class Heterogeneity(Settings):
    """How clients are made to differ."""

    partition: Literal["site", "dirichlet"] = "site"
    alpha: Positive = 1.0
    """Of the Dirichlet mixtures of sites; small = each client has few of them."""
    quantity: Share = 1.0
    """Episodes of the smallest client, as a share of the largest one's."""
    camera: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How unlike light, blur and noise of the clients' cameras are."""
    noise: Noise = 0.0
    """Label noise."""
    missing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the kinds of defect that a client never sees."""


class Cell(NamedTuple):
    """One run of a study."""

    strategy: str
    heterogeneity: str
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.strategy}-{self.heterogeneity}-{self.seed}"


class Study(Settings):
    """The grid of a study; the experiment around it is what all runs share.

    >>> grid = Study(strategies={"sgd": FedSgd()}, heterogeneity={"own": Heterogeneity()}, seeds=2)
    >>> [cell.name for cell in grid.cells(5)]
    ['sgd-own-5', 'sgd-own-6']
    """

    strategies: Annotated[dict[Name, Strategy], Field(min_length=1)]
    heterogeneity: Annotated[dict[Name, Heterogeneity], Field(min_length=1)] = {
        "sites": Heterogeneity()
    }
    seeds: Count = 1
    """Replicates: the experiment's seed and those after it."""
    every: Count = 5
    """Rounds between two exact diagnostics."""
    episodes: Count = 32
    """Frozen episodes of a client, on which F and its gradient are exact."""
    bound: Positive = 1e6
    """Of the loss; a run beyond it is stopped and marked as diverged."""
    workers: Count | None = None
    """Processes; empty = one for each core."""

    def cells(self, seed: int) -> Iterator[Cell]:
        """Yield every run, where ``seed`` is the experiment's."""
        seeds = range(seed, seed + self.seeds)
        for strategy, differences, own in product(self.strategies, self.heterogeneity, seeds):
            yield Cell(strategy, differences, own)

    @model_validator(mode="after")
    def _names_tell_cells_apart(self) -> Study:
        names = [cell.name for cell in self.cells(0)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two runs are called {twice[0]}; name strategies otherwise")
        return self


def parse_study(tree: object, origin: str = "study") -> Study:
    """Check the section ``study`` of a file; the error names ``origin`` and the key.

    >>> parse_study({"strategies": {"a": {"algorithm": "fedprox", "mu": 1}}}).seeds
    1
    """
    try:
        return Study.model_validate({} if tree is None else tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["study", *(str(part) for part in first["loc"])])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{origin}: unknown setting {key!r}") from None
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{origin}: {key}: {message}") from None
