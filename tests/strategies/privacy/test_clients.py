from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from bayfed.errors import FederationError
from strategies.privacy.clients import ClientLevel
from strategies.privacy.noise import gaussian
from strategies.task import Params, norm

NAMES = frozenset({"w", "b"})
UPDATE = st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=4)


def update(values: list[float]) -> Params:
    return {"w": torch.tensor(values[:3]), "b": torch.tensor(values[3]), "still": torch.zeros(2)}


def apart(left: Params, right: Params) -> float:
    return norm({name: left[name].double() - right[name].double() for name in left})


@given(st.lists(UPDATE, min_size=2, max_size=6), UPDATE, st.floats(0.1, 10.0))
def test_one_client_moves_the_sum_by_no_more_than_the_sensitivity(
    values: list[list[float]], other: list[float], clip: float
) -> None:
    private, number = ClientLevel(clip, noise=1e-12, seed=0), len(values)
    updates = [update(each) for each in values]
    replaced = [update(other), *updates[1:]]
    whole = private.mean(updates, number, NAMES, 1)
    assert apart(whole, private.mean(replaced, number, NAMES, 1)) <= 2 * clip / number * (1 + 1e-4)
    assert apart(whole, private.mean(updates[1:], number, NAMES, 1)) <= clip / number * (1 + 1e-4)


def test_the_worst_neighbours_reach_the_sensitivity() -> None:
    private = ClientLevel(0.5, noise=1e-12, seed=0)
    left, right = update([100.0, 0, 0, 0]), update([-100.0, 0, 0, 0])
    mean = private.mean([left], 1, NAMES, 1), private.mean([right], 1, NAMES, 1)
    assert apart(*mean) == pytest.approx(2 * 0.5)


def test_a_client_that_is_missing_gives_no_other_one_more_weight() -> None:
    private = ClientLevel(1.0, noise=1e-12, seed=0)
    mean = private.mean([update([0.5, 0, 0, 0])], 4, NAMES, 1)
    assert mean["w"][0].item() == pytest.approx(0.125)


@pytest.mark.parametrize("seed", [None, 3])
def test_the_noise_of_the_mean(seed: int | None) -> None:
    private = ClientLevel(clip=2.0, noise=1.5, seed=seed)
    zero = {"w": torch.zeros(20_000), "b": torch.zeros(()), "still": torch.zeros(5)}
    found = private.mean([zero] * 4, 4, NAMES, 1)
    assert torch.equal(found["still"], torch.zeros(5))
    standard = found["w"].double().numpy() / (1.5 * 2.0 / 4)
    assert kstest(standard, "norm").pvalue > 1e-6


@pytest.mark.parametrize("seed", [None, 3])
def test_shares_together_are_the_noise(seed: int | None) -> None:
    private = ClientLevel(clip=2.0, noise=1.5, shares=4, seed=seed)
    zero = {"w": torch.zeros(20_000)}
    names = frozenset(zero)
    sent = [private.share(zero, names, 1, f"client{c}") for c in range(4)]
    found = private.mean(sent, 4, names, 1)["w"].double().numpy() / (1.5 * 2.0 / 4)
    assert kstest(found, "norm").pvalue > 1e-6
    alone = sent[0]["w"].double().numpy() / (1.5 * 2.0 / math.sqrt(4))
    assert kstest(alone, "norm").pvalue > 1e-6


def test_a_client_clips_before_it_adds_its_share() -> None:
    private = ClientLevel(clip=1.0, noise=1e-12, shares=1, seed=0)
    assert norm(private.share(update([30.0, 40.0, 0, 0]), NAMES, 1, "a")) == pytest.approx(1.0)


def test_too_few_shares_are_refused() -> None:
    private = ClientLevel(clip=1.0, noise=1.0, shares=3, seed=0)
    with pytest.raises(FederationError, match=r"2 updates bear less noise than .*shares: 3"):
        private.mean([update([0.0] * 4)] * 2, 4, NAMES, 7)


def test_what_is_planned_does_not_depend_on_who_answers() -> None:
    assert ClientLevel(1.0, 1.0, 0.25).planned(9) == 3
    assert ClientLevel(1.0, 1.0, 0.25, "add-or-remove").planned(9) == pytest.approx(2.25)


def test_noise_of_the_seed_is_repeated_and_that_of_the_system_is_not() -> None:
    assert np.array_equal(gaussian(9, ("a", 1), 5), gaussian(9, ("a", 1), 5))
    assert not np.array_equal(gaussian(9, ("a", 1), 5), gaussian(9, ("a", 2), 5))
    assert not np.array_equal(gaussian(9, ("a", 1), None), gaussian(9, ("a", 1), None))
