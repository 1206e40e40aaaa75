from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.study.curvature import jump, largest_curvature
from experiments.study.descent import descend_far
from experiments.study.smooth import NAME, Objective, Problem
from strategies.task import Params


def test_it_is_the_largest_eigenvalue_of_the_hessian_over_all_tensors() -> None:
    mixed = torch.tensor([[2.0, 1.0, 0.0], [1.0, -5.0, 0.5], [0.0, 0.5, 1.0]], dtype=torch.float64)

    def loss(p: Params) -> Tensor:
        w = torch.cat([p["a"], p["b"]])
        return w @ mixed @ w / 2 + p["a"].exp().sum()

    at = {"a": torch.zeros(1, dtype=torch.float64), "b": torch.ones(2, dtype=torch.float64)}
    hessian = mixed.numpy() + np.diag([1.0, 0.0, 0.0])
    expected = np.abs(np.linalg.eigvalsh(hessian)).max()
    assert largest_curvature(loss, at, 60) == pytest.approx(expected, rel=1e-6)


def test_a_flat_loss_has_none() -> None:
    assert largest_curvature(lambda p: (0 * p["w"]).square().sum(), {"w": torch.ones(2)}) == 0


def test_the_search_ends_at_the_least_value() -> None:
    objective = Objective(Problem(clients=2, episodes=6, dimensions=2).tasks().values())
    start = {NAME: torch.full((2,), 4.0, dtype=torch.float64)}
    found = descend_far(objective, start, {})
    assert objective.value(found) == pytest.approx(objective.least[1], rel=1e-9)
    assert start[NAME].tolist() == [4.0, 4.0]


def test_what_has_the_rate_0_stays() -> None:
    objective = Objective(Problem(clients=2, episodes=6, dimensions=2).tasks().values())
    start = {NAME: torch.full((2,), 4.0, dtype=torch.float64), "other": torch.ones(1)}
    assert torch.equal(descend_far(objective, start, {"other": 0.0})["other"], start["other"])


def test_a_jump_is_told_from_a_steep_rise() -> None:
    ends = [{"w": torch.tensor(x, dtype=torch.float64)} for x in (-1.0, 2.0)]
    assert jump(lambda p: float(torch.tanh(1e4 * p["w"])), *ends) < 1e-6
    assert jump(lambda p: float(torch.sign(p["w"] - 0.7) * 0.1), *ends) == pytest.approx(0.2)
