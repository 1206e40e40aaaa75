from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.study.smooth import NAME, Episodes, Objective, Problem

SMALL = Problem(clients=3, episodes=6, dimensions=2, batch=2)


def by_hand(problem: Problem, episodes: Episodes, w: np.ndarray) -> float:
    h, s, a = (x.numpy() for x in episodes)
    total = 0.0
    for m in range(len(h)):
        at = w.copy()
        for _ in range(problem.inner):
            at = at - problem.alpha * h[m] * (at - s[m])
        u = at - a[m]
        total += (problem.nu / 2 * np.log(1 + u * u / problem.nu)).sum()
    return float(total / len(h))


@pytest.mark.parametrize("inner", [1, 3])
def test_the_closed_form_is_the_loss_after_inner_steps(inner: int) -> None:
    problem = replace(SMALL, inner=inner, low=-1.0)
    tasks = problem.tasks()
    objective = Objective(tasks.values())
    w = torch.tensor([0.7, -1.3], dtype=torch.float64, requires_grad=True)
    losses = [task.loss({NAME: w}, task.episodes)[0] for task in tasks.values()]
    mean = torch.stack(losses).mean()
    expected = np.mean([by_hand(problem, t.episodes, w.detach().numpy()) for t in tasks.values()])
    assert mean.item() == pytest.approx(expected, rel=1e-12)
    assert objective.value({NAME: w.detach()}) == pytest.approx(expected, rel=1e-12)
    (gradient,) = torch.autograd.grad(mean, w)
    torch.testing.assert_close(objective.gradient({NAME: w.detach()})[NAME], gradient)


@settings(max_examples=25, deadline=None)
@given(st.floats(-8, 8), st.integers(0, 5))
def test_the_curvature_stays_within_the_constants(w: float, seed: int) -> None:
    tasks = replace(SMALL, seed=seed).tasks()
    L = Objective(tasks.values()).smoothness
    at = torch.full((2,), w, dtype=torch.float64)
    curvature = torch.stack([task.curvature(at) for task in tasks.values()]).mean(0)
    assert float(curvature.min()) >= -L / 8
    assert float(curvature.max()) <= L


def test_the_curvature_is_the_second_derivative() -> None:
    task = SMALL.tasks()["c001"]
    w = torch.tensor([0.7, -1.3], dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(
        lambda at: task.loss({NAME: at}, task.episodes)[0], w
    )
    torch.testing.assert_close(torch.diag(task.curvature(w)), hessian)


def test_the_least_value_is_stationary_and_below_any_other() -> None:
    objective = Objective(SMALL.tasks().values())
    w, least = objective.least
    assert float(objective.gradient({NAME: w})[NAME].abs().max()) < 1e-12
    random = np.random.default_rng(0)
    for point in random.uniform(-6, 6, (200, 2)):
        assert objective.value({NAME: torch.from_numpy(point)}) >= least


def test_the_variance_is_that_of_all_batches_of_two() -> None:
    tasks = SMALL.tasks()
    w = torch.tensor([0.7, -1.3], dtype=torch.float64)
    found = []
    for task in tasks.values():
        g = task.gradients(w).numpy()
        pairs = [(g[i] + g[j]) / 2 for i in range(6) for j in range(6)]
        found.append(np.mean([((p - g.mean(0)) ** 2).sum() for p in pairs]))
    assert Objective(tasks.values()).variance({NAME: w}) == pytest.approx(np.mean(found))


def test_batches_are_keyed_by_client_round_step_and_noise() -> None:
    task = SMALL.tasks()["c000"]
    again = SMALL.tasks()["c000"]
    assert torch.equal(task.batch(3, 1).a, again.batch(3, 1).a)
    other = replace(SMALL, noise=1).tasks()["c000"]
    assert torch.equal(task.episodes.a, other.episodes.a)
    several = [task.batch(r, k).a for r in range(4) for k in range(4)]
    noisy = [other.batch(r, k).a for r in range(4) for k in range(4)]
    assert not all(torch.equal(a, b) for a, b in zip(several, noisy, strict=True))
    assert torch.equal(task.exactly().batch(3, 1).a, task.episodes.a)


def test_clients_are_alike_with_the_dial_at_0_and_unlike_otherwise() -> None:
    alike = list(replace(SMALL, unlike=0.0).tasks().values())
    assert all(torch.equal(alike[0].episodes.a, task.episodes.a) for task in alike)
    spread = []
    for unlike in (0.5, 2.0):
        tasks = replace(SMALL, unlike=unlike, episodes=64).tasks().values()
        centres = torch.stack([task.episodes.a.mean(0) for task in tasks])
        spread.append(float(centres.var(0).sum()))
    assert spread[0] < spread[1]


def test_the_floor_is_that_of_the_linearised_iteration() -> None:
    objective = Objective(replace(SMALL, unlike=0.0).tasks().values())
    w, _ = objective.least
    task = next(iter(replace(SMALL, unlike=0.0).tasks().values()))
    H, g = task.curvature(w).numpy(), task.gradients(w).numpy()
    rate, expected = 0.4, 0.0
    for j in range(2):  # e <- (1 - rate H) e + rate noise, iterated to its stationary variance
        spread, noise = 0.0, g[:, j].var() / SMALL.batch / 5
        for _ in range(2000):
            spread = (1 - rate * H[j]) ** 2 * spread + rate**2 * noise
        expected += H[j] ** 2 * spread
    assert objective.floor(rate, 5) == pytest.approx(expected, rel=1e-9)
