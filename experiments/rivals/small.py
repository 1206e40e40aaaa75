"""A small learning problem, the same for every simulator: needs NumPy and PyTorch alone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

INPUTS = 32
Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class Small:
    """FedAvg of a network with one hidden layer on two classes of Gaussian features.

    Every client takes part in every round, and goes through its batches in their order.

    Attributes:
        clients: How many there are.
        steps: Local steps of a round, each on a batch of its own.
        batch: Examples of a step.
        hidden: Units of the layer.
        rate: Of the local steps.
        rounds: How many, the first of which are not measured.
    """

    clients: int = 100
    steps: int = 4
    batch: int = 16
    hidden: int = 32
    rate: float = 0.1
    rounds: int = 12

    def start(self) -> dict[str, Numbers]:
        """Return the parameters of round 0, named as a sequence of two layers names them."""
        random, hidden = np.random.default_rng(0), self.hidden
        shapes = {"0.weight": (hidden, INPUTS), "0.bias": (hidden,)}
        shapes |= {"2.weight": (2, hidden), "2.bias": (2,)}
        return {
            name: (0.2 * random.standard_normal(shape)).astype(np.float32)
            for name, shape in shapes.items()
        }

    def data(self, client: int) -> tuple[Numbers, NDArray[np.int64]]:
        """Return the examples of ``client`` and their classes."""
        random, number = np.random.default_rng((1, client)), self.steps * self.batch
        classes = random.integers(0, 2, number)
        inputs = random.standard_normal((number, INPUTS)) + 0.5 * (2 * classes[:, None] - 1)
        return (inputs + 0.3 * random.standard_normal(INPUTS)).astype(np.float32), classes

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Small:
        """Read what :meth:`write` has written."""
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls(**found)


def network(hidden: int) -> torch.nn.Sequential:
    """Return the network as a module."""
    layers = torch.nn.Linear(INPUTS, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 2)
    return torch.nn.Sequential(*layers)


def loss(params: dict[str, Tensor], inputs: Tensor, classes: Tensor) -> Tensor:
    """Return the mean cross-entropy of the network as a function of its parameters."""
    hidden = F.relu(inputs @ params["0.weight"].mT + params["0.bias"])
    return F.cross_entropy(hidden @ params["2.weight"].mT + params["2.bias"], classes)
