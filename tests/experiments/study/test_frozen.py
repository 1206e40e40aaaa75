from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bayfed.episodes.episode import EpisodeBatch
from bayfed.seeds import torch_stream
from experiments.study import site_checks
from experiments.study.frozen import Frozen, Stack, adapted, asking
from experiments.study.loop import Asks, one_by_one, run
from experiments.study.outcome import Check, verdict
from strategies.algorithm import Algorithm
from strategies.averaging import Average, Averaging
from strategies.local import gradient_of, plus, scaled
from strategies.outer import Outer
from strategies.scaffold import Scaffold
from strategies.server_optimizers import ServerOptimizer
from strategies.task import Params
from tests import toys

LOCAL = Averaging("parameters", 3, 0.05)


@pytest.fixture(scope="module")
def frozen() -> Frozen:
    """Three unlike clients of four episodes each, in float64."""
    method = toys.method(grid=1, exact=True, grain="image", embedding=3, inner={"steps": 0})
    batches = [toys.batch(4, tokens=1, key=key, dtype=np.float64) for key in range(3)]
    parts = {name: [getattr(b, name) for b in batches] for name in ("support", "query", "labels")}
    episodes = {name: torch.stack(some) for name, some in parts.items()}
    episodes["masks"] = torch.stack([b.masks for b in batches])
    start = {name: value.double() for name, value in method.initial(0).items()}
    return Frozen(Stack(method, episodes, ("a", "b", "c")), start)


def test_factories_are_frozen(tmp_path: Path) -> None:
    experiment = toys.experiment(
        data={"synthetic": {"products": 3}},
        method={"grain": "image", "inner": {"steps": 0}},
        store={"directory": str(tmp_path)},
    )
    found = Frozen.of(experiment)
    assert len(found.names) == 3
    assert found.stack.episodes["labels"].shape[:2] == (3, experiment.federation.episodes)
    assert np.isfinite(found.value(found.start))


class One:
    """A client of a stack by itself."""

    def __init__(self, frozen: Frozen, name: str) -> None:
        row = frozen.names.index(name)
        self.method = frozen.stack.method
        self.episodes = EpisodeBatch(**{k: v[row] for k, v in frozen.stack.episodes.items()})

    def batch(self, round: int, step: int) -> EpisodeBatch:  # noqa: A002
        del round, step
        return self.episodes

    def loss(self, params: Params, batch: EpisodeBatch) -> tuple[torch.Tensor, Params]:
        return self.method.loss(params, batch)


def moved(frozen: Frozen) -> Params:
    generator = torch_stream(0, "moved")
    noise = {k: torch.randn(v.shape, generator=generator).double() for k, v in frozen.start.items()}
    return plus(frozen.start, noise, 0.05)


def each(frozen: Frozen, theta: Params) -> tuple[np.ndarray, list[float]]:
    rows, losses = [], []
    for name in frozen.names:
        episodes = One(frozen, name).episodes
        for i in range(len(episodes)):
            found, report = gradient_of(frozen.stack.method.loss, theta, {}, episodes[i : i + 1])
            rows.append(np.concatenate([found[k].double().numpy().ravel() for k in sorted(found)]))
            losses.append(report["loss"])
    return np.array(rows).reshape(len(frozen.names), -1, rows[0].size), losses


def test_value_gradient_and_variances_are_sums_over_the_episodes(frozen: Frozen) -> None:
    theta = moved(frozen)
    rows, losses = each(frozen, theta)
    assert frozen.value(theta) == pytest.approx(np.mean(losses), rel=1e-12)
    found = frozen.gradient(theta)
    flat = np.concatenate([found[k].double().numpy().ravel() for k in sorted(found)])
    np.testing.assert_allclose(flat, rows.mean((0, 1)), rtol=1e-9, atol=1e-12)
    means = rows.mean(1)
    within = ((rows - means[:, None]) ** 2).sum(2).mean()
    between = ((means - means.mean(0)) ** 2).sum(1).mean()
    assert frozen.variances(theta) == pytest.approx((within, between), rel=1e-9)


def test_batches_are_drawn_from_the_episodes(frozen: Frozen) -> None:
    stack = replace(frozen.stack, draw=1)
    drawn = stack.batch(4, 0)["labels"].shape
    assert drawn[:2] == (len(frozen.names), 1)
    query = stack.batch(4, 0)["query"]
    every = frozen.stack.episodes["query"]
    for client in range(len(frozen.names)):
        assert any(torch.equal(query[client, 0], own) for own in every[client])
    assert torch.equal(query, stack.batch(4, 0)["query"])


@pytest.mark.parametrize(
    "algorithm", [Average(LOCAL), Scaffold(LOCAL), adapted("exact", 0.1)], ids=lambda a: a.__class__
)
def test_at_once_is_one_by_one(frozen: Frozen, algorithm: Algorithm) -> None:
    tasks = {name: One(frozen, name) for name in frozen.names}

    def course(ask: Asks) -> Params:
        outer = Outer(ServerOptimizer("sgd", 0.5))
        return run(algorithm, outer, tasks, frozen.start, 3, frozen, fraction=0.7, ask=ask).theta

    at_once = course(asking(algorithm, frozen.stack))
    torch.testing.assert_close(at_once, course(one_by_one(algorithm, tasks)), rtol=1e-9, atol=1e-12)


def test_the_objective_of_personal_steps_has_the_gradient_of_its_value(frozen: Frozen) -> None:
    personal = replace(frozen, personal=adapted("exact", 0.2))
    theta = moved(frozen)
    slope = personal.gradient(theta)
    size = sum(float(value.square().sum()) for value in slope.values()) ** 0.5
    step = 1e-4
    ahead, behind = (
        personal.value(plus(theta, scaled(slope, 1 / size), sign * step)) for sign in (1, -1)
    )
    assert (ahead - behind) / (2 * step) == pytest.approx(size, rel=1e-5)


def test_curvature_is_that_of_the_steepest_direction() -> None:
    class Quadratic(Frozen):
        def gradient(self, theta: Params) -> Params:
            return {"w": torch.tensor([3.0, -7.0, 1.0]) * theta["w"]}

    quadratic = Quadratic.__new__(Quadratic)
    found = quadratic.curvature({"w": torch.ones(3)})
    assert found == pytest.approx(7.0, rel=1e-3)


def test_a_claim_whose_assumption_fails_has_no_verdict(frozen: Frozen) -> None:
    theta = frozen.start
    outer, tasks = Outer(ServerOptimizer("sgd", 0.05)), dict.fromkeys(frozen.names, frozen.stack)
    ask = asking(Average(Averaging()), frozen.stack)
    course = run(Average(Averaging()), outer, tasks, theta, 5, frozen, ask=ask)
    least = min(point.value for point in course.points)
    holds = site_checks.Ground(frozen, 5.0, 0.05, course, 10.0, least)
    check: Check = site_checks.deterministic(holds)
    assert verdict(check) in {"PASS", "FAIL"}
    assert len(check.marks) == 10
    steep = replace(holds, steepest=30.0)
    assert verdict(site_checks.deterministic(steep)) == "DOES NOT APPLY"
