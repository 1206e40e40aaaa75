from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strategies.outer import Iterate, Outer
from strategies.server_optimizers import ServerOptimizer


@given(
    st.lists(st.floats(-3, 3), min_size=1, max_size=8),
    st.floats(0.01, 0.99),
)
def test_the_mean_weighs_the_iterates_by_their_age(updates: list[float], memory: float) -> None:
    outer = Outer(ServerOptimizer("sgd", 1.0), memory=memory)
    at, path = outer.start({"w": torch.zeros((), dtype=torch.float64)}), []
    for update in updates:
        at = outer.step(at, {"w": torch.tensor(update, dtype=torch.float64)})
        path.append(at.value["w"].item())
    weights = memory ** np.arange(len(path))[::-1]
    assert at.learned["w"].item() == pytest.approx(np.average(path, weights=weights), abs=1e-9)


def test_before_the_first_step_the_start_is_what_was_learned() -> None:
    at = Outer(ServerOptimizer("adam", 1.0), memory=0.9).start({"w": torch.ones(2)})
    assert torch.equal(at.learned["w"], torch.ones(2))


@pytest.mark.parametrize("memory", [0.0, 0.9])
@pytest.mark.parametrize("rule", ["sgd", "adam", "yogi"])
def test_a_resumed_iterate_goes_on_as_if_nothing_had_happened(rule: str, memory: float) -> None:
    outer = Outer(ServerOptimizer(rule, 0.1), 1.0, memory)  # type: ignore[arg-type]
    updates = [{"w": torch.randn(3, generator=torch.Generator().manual_seed(i))} for i in range(4)]
    at = whole = outer.start({"w": torch.ones(3)})
    for update in updates:
        whole = outer.step(whole, update)
        at = outer.step(Iterate.resumed(at.learned, at.memory), update)
    assert torch.equal(at.learned["w"], whole.learned["w"])
    assert torch.equal(at.value["w"], whole.value["w"])
