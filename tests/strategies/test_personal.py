from __future__ import annotations

import pytest
import torch

from bayfed.errors import ConfigError
from strategies.outer import Outer
from strategies.personal import Residuals
from strategies.server_optimizers import ServerOptimizer
from strategies.task import Params

THETA = {"head.w": torch.tensor([1.0, 2.0]), "prior.a": torch.tensor([3.0])}


def residuals(clip: float | None = None, memory: float = 0.0) -> Residuals:
    found = Residuals(["prior"], Outer(ServerOptimizer("sgd", 0.5), clip, memory))
    found.restore(THETA, {}, {})
    return found


def update(value: float) -> Params:
    return {"head.w": torch.ones(2), "prior.a": torch.tensor([value])}


def test_a_client_moves_its_own_residual_of_the_chosen_parameters_only() -> None:
    own = residuals()
    own.step("a", update(4.0))
    assert own.trained(THETA, "a")["prior.a"].item() == 1.0  # 3 - 0.5 * 4
    assert torch.equal(own.trained(THETA, "a")["head.w"], THETA["head.w"])
    assert own.trained(THETA, "b") is THETA


def test_the_update_of_a_residual_is_clipped_by_itself() -> None:
    own = residuals(clip=2.0)
    own.step("a", update(-4.0))
    assert own.trained(THETA, "a")["prior.a"].item() == 4.0


def test_what_is_evaluated_is_the_mean() -> None:
    own = residuals(memory=0.5)
    own.step("a", update(2.0))
    own.step("a", update(2.0))  # at -1, then at -2
    assert own.trained(THETA, "a")["prior.a"].item() == 1.0
    assert own.evaluated(THETA, "a")["prior.a"].item() == pytest.approx(3 - (0.5 + 2) / 1.5)


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_residuals_go_on_from_what_was_kept(memory: float) -> None:
    whole, resumed = residuals(memory=memory), residuals(memory=memory)
    for value in (1.0, -2.0, 5.0):
        for client in ("a", "b"):
            whole.step(client, update(value))
            after = residuals(memory=memory)
            after.restore(THETA, resumed.learned, resumed.memory)
            after.step(client, update(value))
            resumed = after
    assert whole.learned.keys() == {"a/prior.a", "b/prior.a"}
    for client in ("a", "b"):
        left, right = (own.trained(THETA, client) for own in (whole, resumed))
        assert torch.equal(left["prior.a"], right["prior.a"])
        assert torch.equal(whole.learned[f"{client}/prior.a"], resumed.learned[f"{client}/prior.a"])


def test_a_name_that_is_no_parameter_is_refused() -> None:
    own = Residuals(["pior"], Outer(ServerOptimizer("sgd", 1.0)))
    with pytest.raises(ConfigError, match=r"federation\.personal: no parameter is called 'pior'"):
        own.restore(THETA, {}, {})
