from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from bayfed.normality import NIW
from bayfed.seeds import stream


def _prior(dim: int, *key: str | int, batch: tuple[int, ...] = ()) -> NIW:
    rng = stream(0, "prior", dim, *key)
    root = rng.normal(size=(*batch, dim, dim + 2))
    return NIW(
        torch.tensor(rng.normal(size=(*batch, dim))),
        torch.tensor(rng.uniform(0.2, 3, size=batch)),
        torch.tensor(dim - 1 + rng.uniform(0.5, 4, size=batch)),
        torch.tensor(root @ root.swapaxes(-1, -2) + 0.2 * np.eye(dim)),
    )


def _vectors(*shape: int, key: str | int = 0) -> Tensor:
    return torch.tensor(stream(0, "vectors", *shape, key).normal(size=shape))


@pytest.fixture(scope="session")
def make_prior() -> Callable[..., NIW]:
    """A proper float64 prior: ``make_prior(dim, *key, batch=())``."""
    return _prior


@pytest.fixture(scope="session")
def vectors() -> Callable[..., Tensor]:
    """Float64 normal draws: ``vectors(*shape, key=0)``."""
    return _vectors
