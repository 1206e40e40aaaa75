"""What bayfed asks of a rival, as JSON; loads without either library."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Network:
    """A timm model, the file of its weights and the input that it wants.

    Attributes:
        name: Of the model.
        weights: A safetensors file; empty = as the model is drawn.
        create: Arguments with which the model was built.
        stages: Indices of the maps that are read.
        size: Side of the input in pixels.
        mean: Of the input, for each channel.
        std: Of the input, for each channel.
    """

    name: str
    weights: str
    create: dict[str, Any]
    stages: list[int]
    size: int
    mean: list[float]
    std: list[float]


@dataclass(frozen=True)
class Site:
    """Images by their paths.

    Attributes:
        name: Of the site.
        supports: Good images, a list for each draw.
        queries: What is scored.
    """

    name: str
    supports: list[list[str]]
    queries: list[str]


@dataclass(frozen=True)
class Job:
    """PatchCore at equal settings on some sites."""

    network: Network
    coreset: float
    neighbours: int
    seed: int
    threads: int
    sites: list[Site]

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def read(path: Path) -> Job:
    """Read what :meth:`Job.write` has written."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    network, sites = Network(**tree.pop("network")), tree.pop("sites")
    return Job(network=network, sites=[Site(**site) for site in sites], **tree)
