from __future__ import annotations

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp.strategy import FedYogi
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from strategies.server_optimizers import ServerOptimizer

UPDATES = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


def walk(optimizer: ServerOptimizer, updates: torch.Tensor = UPDATES) -> torch.Tensor:
    theta = {"w": torch.tensor([1.0, -2.0, 0.5])}
    state = optimizer.initial(theta)
    for update in updates:
        theta, state = optimizer.step(theta, {"w": update}, state)
    return theta["w"]


def walk_torch(kind: type[torch.optim.Optimizer], **settings: float) -> torch.Tensor:
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    optimizer = kind([w], **settings)
    for update in UPDATES:
        w.grad = update.clone()
        optimizer.step()
    return w.detach()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_that_of_torch(momentum: float) -> None:
    ours = walk(ServerOptimizer("sgd", 0.1, momentum))
    torch.testing.assert_close(ours, walk_torch(torch.optim.SGD, lr=0.1, momentum=momentum))


def test_adam_is_that_of_torch() -> None:
    ours = walk(ServerOptimizer("adam", 0.05))
    torch.testing.assert_close(ours, walk_torch(torch.optim.Adam, lr=0.05))


def test_yogi_is_that_of_flower(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = FedYogi(eta=0.05, beta_1=0.9, beta_2=0.99, tau=1e-3)
    current = np.array([1.0, -2.0, 0.5])
    for update in UPDATES.double().numpy():
        strategy.current_arrays = {"w": current}
        mean = ArrayRecord({"w": torch.from_numpy(current - update)})
        monkeypatch.setattr(
            "flwr.serverapp.strategy.fedavg.FedAvg.aggregate_train",
            lambda *_, mean=mean: (mean, MetricRecord()),
        )
        arrays, _ = strategy.aggregate_train(1, [])
        assert arrays is not None
        current = arrays["w"].numpy()
    np.testing.assert_allclose(walk(ServerOptimizer("yogi", 0.05)).numpy(), current, rtol=1e-5)


@given(st.sampled_from(["sgd", "adam", "yogi"]), st.integers(1, 5))
def test_a_state_that_was_stored_goes_on_bit_for_bit(name: str, stop: int) -> None:
    optimizer = ServerOptimizer(name, 0.1, 0.9)  # type: ignore[arg-type]
    theta = {"w": torch.tensor([1.0, -2.0, 0.5])}
    state = optimizer.initial(theta)
    for index, update in enumerate(UPDATES):
        if index == stop:
            theta, state = load(save(theta)), load(save(state))
        theta, state = optimizer.step(theta, {"w": update}, state)
    assert torch.equal(theta["w"], walk(optimizer))


def test_the_longest_prefix_scales_the_learning_rate() -> None:
    optimizer = ServerOptimizer("sgd", 1.0, scales={"prior": 2.0, "prior.mean": 3.0})
    theta = {name: torch.zeros(1) for name in ("prior.mean", "prior.scale", "head")}
    ones = {name: torch.ones(1) for name in theta}
    after, _ = optimizer.step(theta, ones, optimizer.initial(theta))
    assert {k: v.item() for k, v in after.items()} == {
        "prior.mean": -3.0,
        "prior.scale": -2.0,
        "head": -1.0,
    }


def test_a_step_leaves_its_arguments_alone() -> None:
    optimizer = ServerOptimizer("adam", 0.1)
    theta = {"w": torch.ones(3)}
    state = optimizer.initial(theta)
    optimizer.step(theta, {"w": torch.ones(3)}, state)
    assert torch.equal(theta["w"], torch.ones(3))
    assert int(state["t"]) == 0


def test_the_rate_falls_linearly_over_the_last_rounds():
    rounds, decay, lr = 10, 0.4, 0.5
    optimizer = ServerOptimizer("sgd", lr, rounds=rounds, decay=decay)
    theta = {"w": torch.zeros(())}
    state = optimizer.initial(theta)
    steps = []
    for _ in range(rounds):
        after, state = optimizer.step(theta, {"w": torch.ones(())}, state)
        steps.append(float(theta["w"] - after["w"]))
        theta = after
    expected = [lr] * 7 + [lr * share for share in (0.75, 0.5, 0.25)]
    assert steps == pytest.approx(expected)


def test_without_decay_the_number_of_rounds_changes_nothing():
    assert ServerOptimizer("sgd", 1.0, rounds=3).fall(3) == 1.0
