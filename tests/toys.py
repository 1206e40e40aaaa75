"""Small images, sites, encoders and episodes for the tests of the library."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from bayfed.config import BayPrAnoMeta as Settings
from bayfed.config import Experiment, parse_experiment
from bayfed.data import Site, SiteImage
from bayfed.episodes import Pools
from bayfed.episodes.episode import EpisodeBatch
from bayfed.features import Encoder, StoredFeatures
from bayfed.features.tail import IdentityTail
from bayfed.methods import BayPrAnoMeta, build_method
from bayfed.seeds import stream, torch_stream

TIMM = "test_byobnet"
"""A timm model of 30 thousand parameters."""
STAGES = (1, 2)


@dataclass(frozen=True)
class Drawn:
    """Noise that a number decides; its mask is a square in the middle."""

    number: int
    side: int = 32

    def pixels(self) -> NDArray[np.uint8]:
        shape = (self.side, self.side, 3)
        return stream(0, "drawn", self.number).integers(0, 256, shape, np.uint8)

    def mask(self) -> NDArray[np.bool_]:
        mask = np.zeros(self.size(), bool)
        mask[self.side // 4 : self.side // 2, self.side // 4 : self.side // 2] = True
        return mask

    def size(self) -> tuple[int, int]:
        return self.side, self.side

    def digest(self) -> str:
        return hashlib.sha256(f"{self.number} {self.side}".encode()).hexdigest()


def image(number: int, defect: str | None = None, base: str | None = None) -> SiteImage:
    return SiteImage("toy", f"{defect or 'good'}/{number}", defect, Drawn(number), base)


def site(
    train: int, test: int, defects: dict[str, int], name: str = "toy", family: str = "toys"
) -> Site:
    """A site of as many images; no two are alike."""
    number = iter(range(10_000))
    return Site(
        name,
        family,
        tuple(image(next(number)) for _ in range(train)),
        tuple(image(next(number)) for _ in range(test)),
        tuple(image(next(number), kind) for kind, count in defects.items() for _ in range(count)),
    )


@dataclass
class CountingTrunk:
    """Gives the mean colour of each picture, and remembers how many it saw."""

    fingerprint: str = "f" * 64
    dtype: torch.dtype = torch.float32
    batch: int = 8
    passes: list[int] = field(default_factory=list)

    def __call__(self, images: Tensor) -> Tensor:
        self.passes.append(len(images))
        if self.dtype == torch.uint8:
            return images
        return images.to(self.dtype).mean((2, 3))[:, None, :]


@dataclass(frozen=True)
class ExactTail:
    """An identity that keeps float64."""

    channels: int
    convolves: bool = False

    def initial(self, generator: torch.Generator) -> dict[str, Tensor]:
        del generator
        return {}

    def __call__(self, params: dict[str, Tensor], stored: Tensor) -> Tensor:
        del params
        return stored


def encoder(channels: int, grid: int = 1, exact: bool = False) -> Encoder:
    """An encoder whose trunk outputs are the tokens."""
    tail = ExactTail(channels) if exact else IdentityTail(channels)
    return Encoder(CountingTrunk(), tail, grid, 32)


def features(images: Sequence[SiteImage], values: NDArray[Any]) -> StoredFeatures:
    """Give each image its row of ``values``, without a store."""
    return StoredFeatures((values,), {image.name: (0, row) for row, image in enumerate(images)})


def noise(pools: Pools, tokens: int, channels: int, key: int = 0) -> StoredFeatures:
    """Features that know nothing of good and defective."""
    images = (*pools.training, *pools.testing)
    shape = (len(images), tokens, channels)
    return features(images, stream(key, "noise").standard_normal(shape).astype(np.float32))


def experiment(**groups: Any) -> Experiment:
    """A tiny experiment on the CPU."""
    base: dict[str, Any] = {
        "device": "cpu",
        "data": {
            "synthetic": {
                "products": 2, "size": 32, "train_good": 8, "test_good": 3, "per_defect": 1,
                "kinds": ["hole", "stain"],
            },
            "pasted": {"per_site": 6},
        },
        "backbone": {"name": "conv4", "image_size": 32, "grid": 4, "width": 4, "stages": [1, 2]},
        "method": {"inner": {"steps": 1}},
        "episode": {"shots": 3, "normals": 2, "anomalies": 2},
        "federation": {"backend": "inprocess", "episodes": 2},
        "evaluation": {"shots": 3, "draws": 1},
    }  # fmt: skip
    if "name" in groups.get("method", {}):
        base["method"] = {}  # another system has other settings
    return parse_experiment(_merged(base, groups))


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {k: _merged(base[k], v) for k, v in over.items() if isinstance(base.get(k), dict)}
    return base | over | both


def method(channels: int = 4, grid: int = 3, exact: bool = False, **settings: Any) -> BayPrAnoMeta:
    """The method on tokens of ``channels``; ``grid=1`` is the image grain."""
    base = {"prior": {"effective": 4.0}, "top_k": 0.3}
    return BayPrAnoMeta(
        Settings.model_validate(_merged(base, settings)), encoder(channels, grid, exact)
    )


def system(
    name: str, channels: int = 4, grid: int = 3, exact: bool = False, **settings: Any
) -> Any:
    """The trainable system called ``name`` on tokens of ``channels``."""
    tree = {"name": name, "top_k": 0.3} | settings
    return build_method(parse_experiment({"method": tree}).method, encoder(channels, grid, exact))


def batch(
    episodes: int = 2, *, tokens: int = 9, channels: int = 4, key: int = 0, dtype: Any = np.float32
) -> EpisodeBatch:
    """Episodes of correlated normals, and of anomalies moved on one third of the tokens."""
    random = stream(key, "batch", episodes, tokens, channels)
    mix = np.eye(channels) + 0.5 * random.standard_normal((channels, channels))
    support = random.standard_normal((episodes, 5, tokens, channels)) @ mix
    query = random.standard_normal((episodes, 6, tokens, channels)) @ mix
    masks = np.zeros((episodes, 6, tokens), np.uint8)
    masks[:, 3:, : max(1, tokens // 3)] = 1
    query += 2.0 * masks[..., None]
    labels = np.tile([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], (episodes, 1))
    arrays = (a.astype(dtype) for a in (support, query, labels))
    return EpisodeBatch(*map(torch.from_numpy, arrays), torch.from_numpy(masks))


def one(episodes: EpisodeBatch, i: int) -> EpisodeBatch:
    """The ``i``-th episode alone."""
    part = slice(i, i + 1)
    return replace(
        episodes,
        support=episodes.support[part],
        query=episodes.query[part],
        labels=episodes.labels[part],
        masks=episodes.masks[part],
    )


def gradients(of: Any, params: dict[str, Tensor], episodes: EpisodeBatch) -> Any:
    """The loss's gradient for every meta-parameter, None where there is no path."""
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    loss, _ = of.loss(leaves, episodes)
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return dict(zip(leaves, found, strict=True))


def weights_file(path: Path, name: str = TIMM, metadata: dict[str, str] | None = None) -> Path:
    """Save the seeded weights of a whole timm model."""
    generator = torch_stream(7, "weights", name)
    tensors = {
        key: torch.rand(value.shape, generator=generator)
        if value.is_floating_point()
        else value.clone()
        for key, value in timm.create_model(name, pretrained=False).state_dict().items()
    }
    save_file(tensors, path, metadata)
    return path
