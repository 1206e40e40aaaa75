from __future__ import annotations

from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bayfed.errors import FederationError
from experiments.inprocess import InProcessGrid, flower_identity
from strategies.algorithm import Reply, Sent
from strategies.averaging import Average, Averaging
from strategies.fedavg import MetaFedAvg
from strategies.outer import Outer
from strategies.rules import weighted_mean
from strategies.schema import mismatch
from strategies.server_optimizers import ServerOptimizer
from strategies.task import Params, clipped
from strategies.wire import ARRAYS, METRICS, WEIGHT, Member, pack
from tests.fakes import app


class Line:
    """f(w; x) = (w - x)^2 / 2 with x = 4 round + step, so grad = w - x."""

    def batch(self, round: int, step: int) -> float:  # noqa: A002
        return 4.0 * round + step

    def loss(self, params: Params, batch: float) -> tuple[Tensor, dict[str, float]]:
        return 0.5 * (params["w"] - batch).square().sum(), {"x": batch}


THETA = {"w": torch.tensor([10.0]), "unused": torch.zeros(2)}


def local_update(task: Line, theta: Params, settings: Averaging, number: int) -> Reply:
    return Average(settings).client(task, Sent(theta), {}, number)[0]


def test_the_gradient_is_the_mean_over_batches_at_one_point() -> None:
    update = local_update(Line(), THETA, Averaging("gradient", local_steps=3, episodes=2), 1)
    # x = 4, 5, 6: gradients 6, 5, 4
    assert update.tensors["w"].item() == pytest.approx(5.0)
    assert torch.equal(update.tensors["unused"], torch.zeros(2))
    assert update.weight == 6
    assert update.metrics["loss"] == pytest.approx((18 + 12.5 + 8) / 3)


def test_the_pseudo_gradient_is_the_way_of_local_sgd() -> None:
    settings = Averaging("parameters", local_steps=2, local_lr=0.5)
    update = local_update(Line(), THETA, settings, 1)
    # 10 - 0.5 (10 - 4) = 7, 7 - 0.5 (7 - 5) = 6: theta - theta_c = 4
    assert update.tensors["w"].item() == pytest.approx(4.0)


def test_one_local_step_is_a_scaled_gradient() -> None:
    gradient = local_update(Line(), THETA, Averaging("gradient"), 2).tensors["w"]
    delta = local_update(Line(), THETA, Averaging("parameters", local_lr=0.1), 2).tensors["w"]
    torch.testing.assert_close(delta, 0.1 * gradient)


def test_the_start_is_left_alone() -> None:
    local_update(Line(), THETA, Averaging("parameters", local_steps=3), 1)
    assert THETA["w"].item() == 10.0
    assert not THETA["w"].requires_grad


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 9)), min_size=1, max_size=6))
def test_the_mean_is_weighted_by_episodes(pairs: list[tuple[float, int]]) -> None:
    values, weights = zip(*pairs, strict=True)
    mean = weighted_mean([{"w": torch.tensor([v])} for v in values], weights)["w"].item()
    expected = sum(v * w for v, w in pairs) / sum(weights)
    assert mean == pytest.approx(expected, abs=1e-5)


@given(st.floats(0.1, 10.0))
def test_clipping_never_lengthens_and_keeps_the_direction(limit: float) -> None:
    update = {"a": torch.tensor([3.0]), "b": torch.tensor([4.0])}
    after = clipped(update, limit)
    length = float(torch.cat(list(after.values())).norm())
    assert length == pytest.approx(min(5.0, limit), rel=1e-5)
    assert after["a"].item() / after["b"].item() == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        ({"w": torch.zeros(1)}, "'unused' is missing"),
        ({**THETA, "more": torch.zeros(1)}, "'more' is not expected"),
        ({**THETA, "w": torch.zeros(2)}, "has shape (2,), (1,) is expected"),
        ({**THETA, "w": torch.zeros(1, dtype=torch.float64)}, "has dtype torch.float64"),
        ({**THETA, "w": torch.tensor([float("nan")])}, "'w' holds NaN or Inf"),
        ({**THETA, "w": torch.tensor([float("inf")])}, "'w' holds NaN or Inf"),
    ],
)
def test_what_does_not_fit_is_named(update: Params, reason: str) -> None:
    assert reason in str(mismatch(update, THETA))


def strategy(clip: float | None = None, **settings: Any) -> MetaFedAvg:
    members = [Member(c, f"site{c}", 100 + c) for c in range(2)]
    built = MetaFedAvg(
        Averaging(**{"episodes": 4, **settings}),
        Outer(ServerOptimizer("sgd", 0.5), clip),
        lambda _: members,
        lambda _: members,
    )
    built.restore({"w": torch.tensor([1.0])})
    return built


def replies(*pairs: tuple[float, int], loss: float = 1.0) -> list[Message]:
    with flower_identity():
        asked = [Message(RecordDict(), 100 + c, "train") for c in range(len(pairs))]
        return [
            Message(
                RecordDict(
                    {
                        ARRAYS: pack({"w": torch.tensor([value])}),
                        METRICS: MetricRecord({WEIGHT: weight, "loss": loss, "partition": c}),
                    }
                ),
                reply_to=question,
            )
            for c, (question, (value, weight)) in enumerate(zip(asked, pairs, strict=True))
        ]


def test_the_server_steps_along_the_weighted_mean() -> None:
    built = strategy()
    built.aggregate_train(1, replies((2.0, 3), (6.0, 1)))
    # mean (3 * 2 + 1 * 6) / 4 = 3, theta = 1 - 0.5 * 3
    assert built.theta["w"].item() == pytest.approx(-0.5)
    assert built.update_norm == pytest.approx(3.0)


def test_the_server_clips_the_mean() -> None:
    built = strategy(clip=1.0)
    built.aggregate_train(1, replies((2.0, 3), (6.0, 1)))
    assert built.theta["w"].item() == pytest.approx(0.5)


def test_nothing_to_average_is_an_error() -> None:
    with pytest.raises(FederationError, match="no reply"):
        strategy().aggregate_train(1, [])


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (replies((1.0, 4))[0], None),
        (replies((1.0, 5))[0], "between 1 and 4"),
        (replies((1.0, 0))[0], "between 1 and 4"),
        (replies((float("nan"), 4))[0], "NaN"),
        (replies((1.0, 4), loss=float("nan"))[0], "loss is not finite"),
    ],
)
def test_a_bad_reply_is_refused_with_a_reason(reply: Message, reason: str | None) -> None:
    found = strategy().refusal(1, reply)
    assert (found is None) if reason is None else (reason in str(found))


def test_it_is_a_flower_strategy_that_asks_the_given_cohort() -> None:
    built = strategy()
    assert isinstance(built, FedAvg)
    with flower_identity():
        config = ConfigRecord({"round": 1})
        grid = InProcessGrid(app, 2)
        for configure in (built.configure_train, built.configure_evaluate):
            messages = configure(1, pack(built.theta), config, grid)
            assert [m.metadata.dst_node_id for m in messages] == [100, 101]
            assert [m.content["config"]["client"] for m in messages] == [0, 1]
