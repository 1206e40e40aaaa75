"""What the server must know of the learning problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from bayfed.config import Experiment
from strategies.task import Params


class Problem(Protocol):
    """What the server must know of the learning problem."""

    def client_specs(self, experiment: Experiment) -> Sequence[object]:
        """Return one entry for each client of a simulation."""

    def initial_parameters(
        self, experiment: Experiment, statistics: dict[str, Tensor] | None
    ) -> Params:
        """Return the meta-parameters of round 0, whose shapes a reply must have."""

    def lr_scales(self, experiment: Experiment) -> Mapping[str, float]:
        """Return learning-rate multipliers by prefix of a parameter's name."""

    def check_settings(self, experiment: Experiment) -> None:
        """Check what every client of a simulation would find wrong."""
