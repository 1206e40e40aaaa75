"""Each algorithm against a computation of its own, mostly on quadratics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bayfed.errors import ConfigError
from strategies.algorithm import Algorithm, Received, Reply, Sent
from strategies.averaging import Average, Averaging
from strategies.clustered import Clustered, clusters
from strategies.ditto import Ditto
from strategies.fednova import FedNova
from strategies.fedprox import FedProx
from strategies.local import zeros
from strategies.perfedavg import PerFedAvg, meta_gradient
from strategies.pfedme import PFedMe
from strategies.private import Private
from strategies.scaffold import Scaffold
from strategies.task import Params

BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@dataclass
class Bowl:
    """f(w) = (w - b)' diag(a) (w - b) / 2, the same on every batch; minimiser b."""

    a: list[float]
    b: list[float]

    def batch(self, round: int, step: int) -> int:  # noqa: A002
        return 1000 * round + step

    def loss(self, params: Params, batch: int) -> tuple[Tensor, dict[str, float]]:
        w = params["w"]
        a, b = (torch.tensor(x, dtype=w.dtype) for x in (self.a, self.b))
        loss = (a * (w - b).square()).sum() / 2
        return loss, {"batch": float(batch), "own": float(loss.detach())}


TASKS = {"x": Bowl([1.0, 4.0], [3.0, -1.0]), "y": Bowl([3.0, 1.0], [-1.0, 2.0])}
MINIMISER = np.array([(3 - 3) / 4, (-4 + 2) / 5])  # of the sum: sum a b / sum a


def start(dtype: torch.dtype = torch.float64) -> Params:
    return {"w": torch.tensor([1.0, 1.0], dtype=dtype)}


def rounds(
    algorithm: Algorithm,
    tasks: Mapping[str, Any],
    theta: Params,
    number: int,
    steps: Mapping[str, int] | None = None,
    rate: float = 1.0,
) -> tuple[Params, Params, dict[str, Params]]:
    memory = algorithm.start(theta)
    own: dict[str, Params] = {name: {} for name in tasks}
    for n in range(1, number + 1):
        replies: dict[str, Reply] = {}
        for name, task in tasks.items():
            sent = algorithm.send(theta, memory, name)
            sent = Sent(sent.theta, sent.extras, (steps or {}).get(name))
            replies[name], own[name] = algorithm.client(task, sent, own[name], n)
        step, memory = algorithm.server(Received(n, replies, len(tasks), steps=steps or {}), memory)
        theta = {name: value - rate * step[name] for name, value in theta.items()}
    return theta, memory, own


def local(steps: int, rate: float, **more: Any) -> Averaging:
    return Averaging("parameters", steps, rate, **more)


@BOTH
def test_the_mean_is_weighted_and_keeps_the_type(dtype: torch.dtype) -> None:
    replies = {n: Reply({"w": torch.tensor([v], dtype=dtype)}, k, {}) for n, v, k in (
        ("x", 0.0, 3), ("y", 4.0, 1))}  # fmt: skip
    step, _ = Average(local(1, 0.1)).server(Received(1, replies, 2), {})
    assert step["w"].item() == 1.0
    assert step["w"].dtype == dtype


def test_fedprox_without_mu_is_fedavg() -> None:
    prox, _ = FedProx(local(4, 0.1), mu=0.0).client(TASKS["x"], Sent(start()), {}, 1)
    plain, _ = Average(local(4, 0.1)).client(TASKS["x"], Sent(start()), {}, 1)
    torch.testing.assert_close(prox.tensors, plain.tensors)


def test_fedprox_converges_to_the_proximal_point() -> None:
    reply, _ = FedProx(local(500, 0.1), mu=2.0).client(TASKS["x"], Sent(start()), {}, 1)
    a, b, mu, w = np.array([1, 4]), np.array([3, -1]), 2.0, np.ones(2)
    expected = (a * b + mu * w) / (a + mu)
    np.testing.assert_allclose(w - reply.tensors["w"].numpy(), expected, atol=1e-12)


def test_fedavg_stops_elsewhere_and_scaffold_at_the_minimiser() -> None:
    K, rate = 3, 0.1
    # One round of FedAvg is affine in each coordinate: w <- mean_c b + (1 - rate a)^K (w - b).
    a, b = (np.array([getattr(t, k) for t in TASKS.values()]) for k in "ab")
    power = (1 - rate * a) ** K
    fixed = ((1 - power) * b).sum(0) / (1 - power).sum(0)
    averaged, _, _ = rounds(Average(local(K, rate)), TASKS, start(), 60)
    np.testing.assert_allclose(averaged["w"].numpy(), fixed, atol=1e-12)
    assert np.abs(fixed - MINIMISER).max() > 0.02
    corrected, c, own = rounds(Scaffold(local(K, rate)), TASKS, start(), 100)
    np.testing.assert_allclose(corrected["w"].numpy(), MINIMISER, atol=1e-8)
    np.testing.assert_allclose(c["w"].numpy(), 0.0, atol=1e-8)
    for name, task in TASKS.items():  # c_c is the client's gradient there
        expected = np.array(task.a) * (MINIMISER - np.array(task.b))
        np.testing.assert_allclose(own[name]["w"].numpy(), expected, atol=1e-7)


def test_the_first_round_of_scaffold_is_fedavg_and_leaves_the_mean_gradient() -> None:
    theta, c, _ = rounds(Scaffold(local(3, 0.1)), TASKS, start(), 1)
    plain, _, _ = rounds(Average(local(3, 0.1)), TASKS, start(), 1)
    torch.testing.assert_close(theta, plain)
    way = (start()["w"] - plain["w"]) / (3 * 0.1)
    torch.testing.assert_close(c["w"], way)


def test_scaffold_moves_c_by_the_share_that_took_part() -> None:
    algorithm = Scaffold(local(1, 0.5))
    reply = Reply({"w": torch.zeros(1)}, 1, {}, {"w": torch.tensor([8.0])})
    _, c = algorithm.server(Received(1, {"x": reply}, 4), {"w": torch.tensor([1.0])})
    assert c["w"].item() == 1.0 + 8.0 / 4


def test_fednova_weighs_clients_alike_where_fedavg_follows_the_busy_one() -> None:
    tasks = {"x": Bowl([1.0, 1.0], [4.0, 0.0]), "y": Bowl([1.0, 1.0], [0.0, 2.0])}
    steps, rate = {"x": 1, "y": 3}, 0.05
    # Minimiser of the mean: (2, 1). Equal curvature: the floor is known in closed form.
    power = np.array([(1 - rate) ** k for k in steps.values()])
    b = np.array([t.b for t in tasks.values()])
    for algorithm, weight in (
        (FedNova(local(1, rate)), (1 - power) / np.array([1, 3])),
        (Average(local(1, rate)), 1 - power),  # what a client weighs is in its K steps
    ):
        theta, _, _ = rounds(algorithm, tasks, start(), 200, steps)
        expected = (weight[:, None] * b).sum(0) / weight.sum()
        np.testing.assert_allclose(theta["w"].numpy(), expected, atol=1e-6)
        away = np.abs(expected - [2, 1]).max()
        assert (away < 0.1) == isinstance(algorithm, FedNova)


@pytest.mark.parametrize(
    "make",
    [Average, FedProx, Scaffold, FedNova, PerFedAvg, PFedMe, Ditto],
    ids=lambda m: m.__name__,
)
def test_an_update_of_parameters_weighs_the_same_after_many_steps(make: Any) -> None:
    algorithm = make(local(1, 0.1, episodes=4))
    replies = [
        algorithm.client(TASKS["x"], Sent(start(), zeros(start()), steps), {}, 1)[0]
        for steps in (1, 5)
    ]
    assert [reply.weight for reply in replies] == [4, 4]


def test_scaffold_finds_the_minimiser_where_clients_take_unequal_steps() -> None:
    theta, _, _ = rounds(Scaffold(local(1, 0.1)), TASKS, start(), 150, {"x": 1, "y": 4})
    np.testing.assert_allclose(theta["w"].numpy(), MINIMISER, atol=1e-6)


def test_fednova_with_equal_steps_is_fedavg() -> None:
    nova, _, _ = rounds(FedNova(local(4, 0.1)), TASKS, start(), 3)
    plain, _, _ = rounds(Average(local(4, 0.1)), TASKS, start(), 3)
    torch.testing.assert_close(nova, plain)


def support(params: Params, x: Tensor) -> Tensor:
    return torch.log(torch.cosh(params["w"] * x)).sum() + params["w"].prod().square() / 4


def query(params: Params, x: Tensor) -> Tensor:
    return torch.sin(params["w"] + x).sum() * params["w"].sum()


def by_hand(theta: Params, x: Tensor, alpha: float, *, first: bool) -> Tensor:
    def f(w: Tensor) -> Tensor:
        return support({"w": w}, x)

    w = theta["w"]
    hessian = torch.func.hessian(f)(w)
    v = torch.func.grad(lambda at: query({"w": at}, x))(w - alpha * torch.func.grad(f)(w))
    return v if first else v - alpha * hessian @ v


@BOTH
def test_the_meta_gradient_against_the_hessian(dtype: torch.dtype) -> None:
    theta, x = start(dtype), torch.tensor([0.3, -0.7], dtype=dtype)
    exact, loss = meta_gradient(support, query, theta, x, 0.2, "exact")
    torch.testing.assert_close(exact["w"], by_hand(theta, x, 0.2, first=False))
    first, _ = meta_gradient(support, query, theta, x, 0.2, "first")
    torch.testing.assert_close(first["w"], by_hand(theta, x, 0.2, first=True))
    inner = torch.func.grad(lambda w: support({"w": w}, x))(theta["w"])
    torch.testing.assert_close(loss, query({"w": theta["w"] - 0.2 * inner}, x))


def test_the_error_of_the_hessian_free_gradient_falls_with_delta_squared() -> None:
    theta, x = start(), torch.tensor([0.3, -0.7], dtype=torch.float64)
    exact = by_hand(theta, x, 0.2, first=False)
    errors = []
    for delta in (1e-1, 1e-2):
        free, _ = meta_gradient(support, query, theta, x, 0.2, "hessian-free", delta)
        errors.append(float((free["w"] - exact).norm()))
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.05)


class Stack:
    """A MetaTask: three episodes of the losses above."""

    x = torch.tensor([[0.3, -0.7], [0.1, 0.2], [-0.5, 0.4]], dtype=torch.float64)

    def batch(self, round: int, step: int) -> Tensor:  # noqa: A002, ARG002
        return self.x

    def support(self, params: Params, episode: Tensor) -> Tensor:
        return support(params, episode)

    def query(self, params: Params, episode: Tensor) -> Tensor:
        return query(params, episode)

    def loss(self, params: Params, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        raise NotImplementedError


@pytest.mark.parametrize("order", ["exact", "first"])
def test_per_fedavg_steps_along_the_mean_over_episodes(order: Any) -> None:
    w = start()["w"]
    for _ in range(2):
        each = [by_hand({"w": w}, x, 0.2, first=order == "first") for x in Stack.x]
        w = w - 0.1 * torch.stack(each).mean(0)
    reply, _ = PerFedAvg(local(2, 0.1), 0.2, order).client(Stack(), Sent(start()), {}, 1)
    torch.testing.assert_close(start()["w"] - reply.tensors["w"], w)


@BOTH
def test_per_fedavg_on_batches_has_the_closed_form_of_a_quadratic(dtype: torch.dtype) -> None:
    reply, _ = PerFedAvg(local(1, 1.0), 0.1).client(TASKS["x"], Sent(start(dtype)), {}, 1)
    a, b = np.array([1, 4]), np.array([3, -1])
    expected = (1 - 0.1 * a) ** 2 * a * (np.ones(2) - b)
    np.testing.assert_allclose(reply.tensors["w"].numpy(), expected, rtol=1e-5)
    assert reply.tensors["w"].dtype == dtype


def test_per_fedavg_leaves_alone_what_has_the_rate_0() -> None:
    theta = start() | {"fixed": torch.ones(1)}
    settings = local(1, 1.0, rates={"fixed": 0.0})
    reply, _ = PerFedAvg(settings, 0.1).client(TASKS["x"], Sent(theta), {}, 1)
    assert reply.tensors["fixed"].item() == 0.0
    with pytest.raises(ConfigError, match="every parameter"):
        PerFedAvg(local(1, 1.0, rates={"": 0.0})).client(TASKS["x"], Sent(theta), {}, 1)


def test_ditto_ends_between_the_shared_and_its_own() -> None:
    algorithm = Ditto(local(1, 0.3), pull=2.0, steps=2, rate=0.15)
    theta, _, own = rounds(algorithm, TASKS, start(), 60)
    plain, _, _ = rounds(Average(local(1, 0.3)), TASKS, start(), 60)
    torch.testing.assert_close(theta, plain)  # the shared part does not see it
    for name, task in TASKS.items():
        a, b = np.array(task.a), np.array(task.b)
        expected = (a * b + 2.0 * theta["w"].numpy()) / (a + 2.0)
        np.testing.assert_allclose(own[name]["w"].numpy(), expected, atol=1e-9)


def test_pfedme_finds_the_minimiser_of_the_mean_of_the_envelopes() -> None:
    algorithm = PFedMe(local(1, 0.4), pull=2.0, steps=15, rate=0.15)
    theta, _, own = rounds(algorithm, TASKS, start(), 60)
    a, b = (np.array([getattr(t, k) for t in TASKS.values()]) for k in "ab")
    weight = a * 2.0 / (a + 2.0)  # curvature of the envelope of a quadratic
    expected = (weight * b).sum(0) / weight.sum(0)
    np.testing.assert_allclose(theta["w"].numpy(), expected, atol=1e-7)
    for i, name in enumerate(TASKS):
        personal = (a[i] * b[i] + 2.0 * expected) / (a[i] + 2.0)
        np.testing.assert_allclose(own[name]["w"].numpy(), personal, atol=1e-6)


@dataclass
class Pair:
    """f = (shared + private - b)^2 / 2 + (private - b)^2 / 2: private -> b, shared -> 0."""

    b: float

    def batch(self, round: int, step: int) -> None:  # noqa: A002
        pass

    def loss(self, params: Params, batch: None) -> tuple[Tensor, dict[str, float]]:  # noqa: ARG002
        s, p = params["shared.w"], params["norm.w"]
        return ((s + p - self.b).square() + (p - self.b).square()).sum() / 2, {}


@pytest.mark.parametrize("aggregate", ["gradient", "parameters"])
def test_private_parts_fit_their_client_and_are_not_sent(aggregate: Any) -> None:
    theta = {"shared.w": torch.tensor([5.0]), "norm.w": torch.tensor([0.5])}
    rate = 0.5 if aggregate == "gradient" else 1.0
    base = Average(Averaging(aggregate, 1, 0.5))
    algorithm = Private(base, ["norm."], rate)
    tasks = {"x": Pair(-3.0), "y": Pair(7.0)}
    shared, _, own = rounds(algorithm, tasks, theta, 80, rate=rate)
    assert shared["shared.w"].item() == pytest.approx(0.0, abs=1e-4)
    assert shared["norm.w"].item() == 0.5
    assert [own[c]["private/norm.w"].item() for c in tasks] == pytest.approx([-3.0, 7.0], abs=1e-4)
    with pytest.raises(ConfigError, match="'head'; their names begin with norm, shared"):
        Private(base, ["head"]).start(theta)


def test_private_parts_go_with_an_algorithm_that_remembers() -> None:
    theta = {"shared.w": torch.tensor([5.0]), "norm.w": torch.tensor([0.5])}
    algorithm = Private(Scaffold(local(3, 0.3)), ["norm."])
    shared, _, own = rounds(algorithm, {"x": Pair(-3.0), "y": Pair(7.0)}, theta, 60)
    assert shared["shared.w"].item() == pytest.approx(0.0, abs=1e-3)
    assert set(own["x"]) == {"private/norm.w", "base/shared.w", "base/norm.w"}


FOUR = {f"{k}{i}": Bowl([1.0, 1.0], [x + 0.1 * i, x]) for k, x in (("p", 9.0), ("q", -9.0))
        for i in range(2)}  # fmt: skip


@pytest.mark.parametrize("known", [None, {"p0": 1, "p1": 1, "q0": 0, "q1": 0}])
def test_each_cluster_finds_the_minimiser_of_its_own(known: dict[str, int] | None) -> None:
    algorithm = Clustered(local(2, 0.4), number=2, after=2, known=known)
    theta, memory, _ = rounds(algorithm, FOUR, start(), 40)
    for name, expected in (("p0", [9.05, 9.0]), ("p1", [9.05, 9.0]), ("q1", [-8.95, -9.0])):
        sent = algorithm.send(theta, memory, name).theta["w"].numpy()
        np.testing.assert_allclose(sent, expected, atol=1e-9)
    stranger = algorithm.send(theta, memory, "new").theta
    assert torch.equal(stranger["w"], theta["w"])


def test_a_cluster_that_was_not_heard_stays_where_it_is() -> None:
    algorithm = Clustered(local(1, 0.5), known={"p0": 0, "q0": 1})
    theta = start()
    memory = algorithm.start(theta)
    reply, _ = algorithm.client(FOUR["p0"], algorithm.send(theta, memory, "p0"), {}, 1)
    step, memory = algorithm.server(Received(1, {"p0": reply}, 2), memory)
    theta = {"w": theta["w"] - step["w"]}
    torch.testing.assert_close(algorithm.send(theta, memory, "q0").theta, start())


def test_clusters_by_statistics_compare_values() -> None:
    sums = {"a": [1.0, 1.0], "b": [9.0, 9.0], "c": [1.2, 0.9]}
    vectors = {name: {"sum": torch.tensor(value)} for name, value in sums.items()}
    assert clusters(vectors, 2, "euclidean") == {"a": 0, "b": 1, "c": 0}
    assert clusters({"a": vectors["a"]}, 2, "cosine") == {"a": 0}
