from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bayfed.errors import ConfigError
from bayfed.methods.tokens import shortened
from bayfed.normality.empirical_bayes import EvidenceSums, evidence_sums, fit_prior
from bayfed.normality.statistics import sufficient_statistics
from bayfed.seeds import stream
from strategies.privacy.statistics import NORM, PARTS, PrivateStatistics
from strategies.task import Params, norm

RADIUS, MOST, DIM = 2.0, 40.0, 3


def release(of: PrivateStatistics, parts: list[Params]) -> Params:
    total = {name: torch.stack([of.bounded(p)[name] for p in parts]).sum(0) for name in parts[0]}
    return of.release(total, len(parts))


def private(**over: Any) -> PrivateStatistics:
    return PrivateStatistics(**{"radius": RADIUS, "most": MOST, "noise": 1e-12, "seed": 0} | over)


def sums(z: torch.Tensor, sites: int = 1) -> Params:
    parts = [evidence_sums(sufficient_statistics(part.double())) for part in z.chunk(sites)]
    total = parts[0]
    for part in parts[1:]:
        total = total.add(part)
    return total._asdict()


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.floats(0, 5), st.integers(1, 2))
def test_no_contribution_is_longer_than_its_bound(
    key: int, count: int, shift: float, sites: int
) -> None:
    random = stream(key, "embeddings")
    scale = random.choice([0.0, 0.1, 1.0, 10.0])
    raw = scale * random.standard_normal((sites * count, DIM)) + shift
    z = shortened(torch.from_numpy(raw), RADIUS)
    exact = sums(z, sites)
    vector = private().contribution(exact, "a")
    assert norm(vector) <= NORM * (1 + 1e-9)
    # nothing is clipped, since the bound is one of the embeddings
    assert vector["count"].item() == pytest.approx(float(exact["count"]) / sites / MOST)


def test_the_bound_is_reached() -> None:
    z = torch.zeros(int(MOST), DIM)
    z[:, 0] = RADIUS
    assert norm(private().contribution(sums(z), "a")) == pytest.approx(NORM)


def test_without_noise_the_prior_is_that_of_the_sums() -> None:
    random = stream(0, "sites")
    sites = [torch.from_numpy(0.2 * random.standard_normal((30, DIM)) + 0.3 * s) for s in range(3)]
    parts = [private().contribution(sums(z), str(c)) for c, z in enumerate(sites)]
    found = fit_prior(EvidenceSums(**release(private(), parts)), 2.0, 1.0)
    exact = fit_prior(EvidenceSums(**sums(torch.cat(sites), 3)), 2.0, 1.0)
    for left, right in zip(found, exact, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shares", [None, 4])
def test_the_noise_of_the_sum(shares: int | None) -> None:
    zero = {
        "sites": torch.tensor(1.0), "count": torch.tensor(0.0), "within": torch.zeros(DIM, DIM),
        "mean": torch.zeros(3000), "mean_outer": torch.zeros(DIM, DIM),
    }  # fmt: skip
    of = private(noise=1.5, shares=shares, radius=1.0)
    released = release(of, [of.contribution(zero, str(c)) for c in range(4)])
    assert released["mean"].std().item() == pytest.approx(1.5 * NORM, rel=0.06)


@given(st.integers(0, 100))
def test_what_is_released_makes_a_prior_however_large_the_noise(key: int) -> None:
    z = torch.from_numpy(stream(key, "z").standard_normal((20, DIM)))
    of = private(noise=50.0, seed=key)
    found = fit_prior(EvidenceSums(**release(of, [of.contribution(sums(z), "a")])), 2.0, 1.0)
    assert np.linalg.eigvalsh(found.scale.numpy()).min() > 0


def test_too_few_shares_and_other_models_are_refused() -> None:
    of, one = private(shares=2), sums(torch.zeros(4, DIM))
    with pytest.raises(ConfigError, match=r"1 clients bear less noise than .*shares: 2"):
        release(of, [of.contribution(one, "a")])
    with pytest.raises(ConfigError, match="one normal model only"):
        of.contribution(one | {"wide.count": torch.ones(())}, "a")
    assert set(of.contribution(one, "a")) == PARTS
