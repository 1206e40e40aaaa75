from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from experiments.study.loop import Course, run
from experiments.study.smooth import NAME, Objective, Problem
from strategies.averaging import Average, Averaging
from strategies.outer import Outer
from strategies.scaffold import Scaffold
from strategies.server_optimizers import ServerOptimizer
from strategies.spread import spread

SMALL = Problem(clients=4, episodes=6, dimensions=2, batch=2)


def course(rounds: int = 4, rate: float = 0.3, **more: object) -> Course:
    tasks = SMALL.tasks()
    outer = Outer(ServerOptimizer("sgd", rate))
    objective = Objective(tasks.values())
    return run(Average(Averaging()), outer, tasks, SMALL.start(), rounds, objective, **more)  # type: ignore[arg-type]


def test_a_round_is_a_step_along_the_mean_gradient() -> None:
    found = course(rounds=1)
    w = SMALL.start()[NAME]
    each: list[Tensor] = []
    for task in SMALL.tasks().values():
        at = w.clone().requires_grad_()
        each.append(torch.autograd.grad(task.loss({NAME: at}, task.batch(1, 0))[0], at)[0])
    mean = torch.stack(each).mean(0)
    torch.testing.assert_close(found.theta[NAME], w - 0.3 * mean)
    point = found.points[0]
    assert point.drift == pytest.approx(
        float(torch.stack([(g - mean).square().sum() for g in each]).mean())
    )
    assert point.step == pytest.approx(float(mean.norm()))
    full = Objective(SMALL.tasks().values()).gradient({NAME: w})[NAME]
    assert point.slope == pytest.approx(float(full.square().sum()))


def test_two_runs_are_equal_bit_for_bit() -> None:
    one, two = course(fraction=0.5), course(fraction=0.5)
    assert [p.slope for p in one.points] == [p.slope for p in two.points]
    assert torch.equal(one.theta[NAME], two.theta[NAME])


def test_the_sample_depends_on_the_seed() -> None:
    first, second = course(8, fraction=0.5), course(8, fraction=0.5, seed=1)
    assert not torch.equal(first.theta[NAME], second.theta[NAME])


def test_a_run_beyond_the_bound_is_stopped_and_marked() -> None:
    start = Objective(SMALL.tasks().values()).value(SMALL.start())
    found = course(50, rate=-5.0, bound=start + 1)
    assert found.diverged
    assert 0 < len(found.points) < 50


def test_a_run_ends_early_when_told() -> None:
    assert len(course(50, until=lambda point: point.round == 3).points) == 3


def test_memories_live_through_the_rounds() -> None:
    tasks = {name: task.exactly() for name, task in SMALL.tasks().items()}
    outer, objective = Outer(ServerOptimizer("sgd", 1.0)), Objective(tasks.values())
    algorithm = Scaffold(Averaging("parameters", 3, 0.2))
    found = run(algorithm, outer, tasks, SMALL.start(), 5, objective)
    own = torch.stack([found.memories[name][NAME] for name in tasks]).mean(0)
    torch.testing.assert_close(own, found.memory[NAME])


def test_one_client_has_no_cosine() -> None:
    drift, cosine = spread([{"w": torch.ones(2)}])
    assert drift == 0.0
    assert math.isnan(cosine)


def test_a_run_that_is_looked_at_less_often_is_the_same_run() -> None:
    often, seldom = course(7), course(7, every=3)
    assert [p.round for p in seldom.points] == [1, 4, 7]
    assert [p.slope for p in seldom.points] == [often.points[i].slope for i in (0, 3, 6)]
    assert torch.equal(often.theta[NAME], seldom.theta[NAME])
