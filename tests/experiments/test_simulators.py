from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments.benchmarks import scale, simulators
from experiments.rivals.small import Small, network

SMALL = Small(clients=3, steps=2, batch=4, hidden=5, rounds=2)


def averaged(problem: Small) -> dict[str, torch.Tensor]:
    """FedAvg as one writes it down."""
    theta = {name: torch.from_numpy(value) for name, value in problem.start().items()}
    for _ in range(problem.rounds):
        ends = []
        for client in range(problem.clients):
            inputs, classes = (torch.from_numpy(part) for part in problem.data(client))
            model = network(problem.hidden)
            model.load_state_dict(theta)
            optimizer = torch.optim.SGD(model.parameters(), lr=problem.rate)
            size = problem.batch
            for x, y in zip(inputs.split(size), classes.split(size), strict=True):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
            ends.append(model.state_dict())
        theta = {name: torch.stack([end[name] for end in ends]).mean(0) for name in theta}
    return theta


@pytest.mark.parametrize("size", [None, 1, 2, 3])
def test_bayfed_learns_the_small_problem_as_fedavg_does(size: int | None) -> None:
    found = simulators.bayfed(SMALL, size)
    assert len(found["seconds"]) == SMALL.rounds
    for name, value in averaged(SMALL).items():
        np.testing.assert_allclose(found["params"][name], value, rtol=1e-4, atol=1e-6)


def test_as_many_train_in_a_round_as_are_asked_for() -> None:
    assert scale.experiment("batched", 1000, 100, 2, 4, 28).federation.fraction == 0.1
