"""Every algorithm over messages: what the pair of halves gives without Flower."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import pytest
import torch
from flwr.app import ConfigRecord, Context, Message

from bayfed.config import Experiment, algorithms, experiment_hash, parse_experiment
from bayfed.errors import ConfigError, DivergedError, FederationError
from bayfed.evaluation.table import read_rows
from bayfed.metrics.dissimilarity import gaussian_dissimilarity, gradient_diversity
from bayfed.normality.empirical_bayes import evidence_sums
from bayfed.normality.statistics import SufficientStatistics
from experiments.inprocess import InProcessGrid
from experiments.study.loop import Course, run
from server import checkpoints, history
from server.diagnosis import apart
from server.job import Job
from strategies.build import algorithm_of
from strategies.outer import Outer
from strategies.server_optimizers import ServerOptimizer
from strategies.task import Params
from strategies.wire import CONFIG, EXTRAS, pack
from tests import fakes

PLAIN = {
    "aggregate": "parameters", "local_steps": 3, "local_lr": 0.2, "optimizer": "sgd", "lr": 0.5,
}  # fmt: skip
CHOICES: dict[str, dict[str, Any]] = {
    "average": {},
    "fedprox": {"mu": 0.5},
    "scaffold": {},
    "fednova": {},
    "per-fedavg": {"alpha": 0.1},
    "ditto": {"rate": 0.1},
    "pfedme": {"steps": 4, "rate": 0.2},
    "private": {"prefixes": ["b"]},
    "clustered": {"after": 2},
}
"""Settings under which each algorithm is tried; a new one has to be among them."""
ROUNDS = 4
START: Params = {"w": torch.zeros(3), "b": torch.zeros(2)}


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)


def experiment(name: str, **federation: Any) -> Experiment:
    settings = {"algorithm": {"name": name, **CHOICES[name]}, "server": PLAIN, **federation}
    return fakes.experiment(rounds=ROUNDS, **settings)


class Flat:
    value = staticmethod(lambda _: 0.0)
    gradient = staticmethod(lambda theta: theta)


def alone(of: Experiment, rounds: int = ROUNDS) -> Course:
    tasks = {f"site{c}": fakes.ToyFactory(0, c, of.federation.episodes) for c in range(3)}
    outer = Outer(ServerOptimizer("sgd", PLAIN["lr"]))  # type: ignore[arg-type]
    return run(algorithm_of(of), outer, tasks, START, rounds, Flat())


def last(job: Job) -> checkpoints.Snapshot:
    found = checkpoints.latest(job.out / "checkpoints", experiment_hash(job.experiment))
    assert found is not None
    return found


def test_every_algorithm_is_tried() -> None:
    union, _ = get_args(algorithms.Algorithm)
    assert {one.model_fields["name"].annotation for one in get_args(union)} == {
        Literal[name]
        for name in CHOICES  # type: ignore[valid-type]
    }


@pytest.mark.parametrize("name", CHOICES)
def test_messages_change_nothing(tmp_path: Path, name: str) -> None:
    job = Job(experiment(name), tmp_path)
    fakes.play(job)
    torch.testing.assert_close(last(job).theta, alone(job.experiment).theta)


@pytest.mark.parametrize("name", ["ditto", "pfedme", "private"])
def test_a_client_is_evaluated_with_its_own_model(tmp_path: Path, name: str) -> None:
    chosen = {"algorithm": {"name": name, **CHOICES[name]}}
    if name == "private":
        chosen["algorithm"]["prefixes"] = ["w"]
    job = Job(fakes.experiment(rounds=40, server=PLAIN, **chosen), tmp_path)
    fakes.play(job)
    found = {r.site: r.image_auroc for r in read_rows(job.results) if r.round == 40}
    # The score falls with the distance to a site's own goal; the shared model is at site1's.
    assert min(found["site0"] or 0, found["site2"] or 0) > 0.5 > (found["site3"] or 0)


def test_a_cluster_is_evaluated_with_its_own_model(tmp_path: Path) -> None:
    chosen = {"algorithm": {"name": "clustered", "clusters": 3, "metric": "euclidean"}}
    job = Job(fakes.experiment(rounds=40, server=PLAIN, **chosen), tmp_path)
    fakes.play(job)
    found = {r.site: r.image_auroc for r in read_rows(job.results) if r.round == 40}
    assert min(found["site0"] or 0, found["site2"] or 0) > 0.8 > (found["site3"] or 0)


def test_what_the_server_remembers_is_in_the_checkpoint(tmp_path: Path) -> None:
    whole, halved = (Job(experiment("clustered"), tmp_path / name) for name in "ab")
    fakes.play(whole)
    fakes.play(Job(halved.experiment.model_copy(update={
        "federation": halved.experiment.federation.model_copy(update={"rounds": 3})}), halved.out,
    ))  # fmt: skip
    fakes.play(Job(halved.experiment, halved.out, resume=True))
    a, b = last(whole), last(halved)
    torch.testing.assert_close(a.theta, b.theta, rtol=0, atol=0)
    assert any(name.startswith("algorithm/") for name in b.optimizer)
    torch.testing.assert_close(a.optimizer, b.optimizer, rtol=0, atol=0)


class Asking(InProcessGrid):
    """Notes the local steps that each client is asked for."""

    def __init__(self) -> None:
        super().__init__(fakes.app, fakes.SITES)
        self.steps: dict[int, object] = {}

    def deliver(self, message: Message) -> Message | None:
        config = message.content.config_records.get(CONFIG, ConfigRecord())
        if message.metadata.message_type == "train":
            self.steps[int(config["client"])] = config.get("steps")  # type: ignore[arg-type]
        return super().deliver(message)


def test_unequal_clients_take_fewer_steps_and_fednova_makes_up_for_it(tmp_path: Path) -> None:
    found = {}
    for name in ("average", "fednova"):
        server = {**PLAIN, "local_steps": 10, "unequal": 0.9, "local_lr": 0.005, "lr": 6.0}
        of = fakes.experiment(rounds=60, algorithm={"name": name}, server=server)
        job, grid = Job(of, tmp_path / name), Asking()
        fakes.play(job, grid)
        steps = [int(str(value)) for value in grid.steps.values()]
        assert all(1 <= k <= 10 for k in steps)
        assert len(set(steps)) > 1
        found[name] = last(job).theta["w"].mean().item()
    # The mean of the three goals is 1; averages lean towards those that take more steps.
    assert abs(found["fednova"] - 1) < 0.03 < abs(found["average"] - 1)


def test_extras_of_another_shape_are_refused(tmp_path: Path) -> None:
    def forging(message: Message, context: Context) -> Message:
        reply = fakes.app(message, context)
        if EXTRAS in reply.content and context.node_config["partition-id"] == 1:
            reply.content[EXTRAS] = pack({"w": torch.zeros(4), "b": torch.zeros(2)})
        return reply

    job = Job(experiment("scaffold"), tmp_path)
    with pytest.raises(FederationError, match="extras: tensor 'w' has shape"):
        fakes.play(job, InProcessGrid(forging, fakes.SITES))


def test_a_diagnosis_is_exact_on_frozen_episodes(tmp_path: Path) -> None:
    diagnostics = {"every": 3, "episodes": 9}
    job = Job(experiment("average", diagnostics=diagnostics), tmp_path)
    fakes.play(job)
    lines = history.read(job.history)
    assert [line["round"] for line in lines if line["slope"] is not None] == [0, 3, 4]
    theta, episodes = alone(job.experiment, 3).theta["w"], job.experiment.federation.episodes
    batches = [
        torch.cat([fakes.ToyFactory(0, c, episodes).batch(0, s) for s in range(-(-9 // episodes))])
        for c in range(3)
    ]
    each = torch.stack([theta - batch.mean(0) for batch in batches]).double()
    losses = [0.5 * (theta - batch).square().sum(1).mean().item() for batch in batches]
    slope = each.mean(0).square().sum().item()
    unlike = gradient_diversity(each)
    found = lines[3]
    assert found["objective"] == pytest.approx(sum(losses) / 3, rel=1e-5)
    assert found["slope"] == pytest.approx(slope, rel=1e-4)
    assert found["dissimilarity"] == pytest.approx(unlike, rel=1e-4)
    assert found["inner_gain"] == 0.25


def test_factories_are_as_far_apart_as_their_images() -> None:
    generator = torch.Generator().manual_seed(0)
    factories = [
        torch.randn(200, 3, generator=generator).double() * (1 + c) + 2 * c for c in range(3)
    ]
    sums = [
        evidence_sums(
            SufficientStatistics(
                torch.tensor(float(len(x))).double(), x.mean(0), (x - x.mean(0)).T @ (x - x.mean(0))
            )
        )._asdict()
        for x in factories
    ]
    means = torch.stack([x.mean(0) for x in factories])
    covariances = torch.stack([torch.cov(x.T, correction=0) for x in factories])
    distance, share = gaussian_dissimilarity(means, covariances)
    found = apart(sums)
    assert found["statistics_distance"] == pytest.approx(distance, rel=1e-5)
    assert found["statistics_share"] == pytest.approx(share, rel=1e-5)
    assert apart(sums[:1]) == apart([{"n": torch.ones(1)}] * 2) == {}


@pytest.mark.parametrize(
    ("server", "bound", "message"),
    [({**PLAIN, "lr": 1e38}, 1e30, "out of range"), ({**PLAIN, "lr": 30.0}, 50.0, "median loss")],
)
def test_a_run_that_diverges_says_so(
    tmp_path: Path, server: dict[str, Any], bound: float, message: str
) -> None:
    job = Job(fakes.experiment(rounds=9, server=server, largest_loss=bound), tmp_path)
    with pytest.raises(DivergedError, match=message):
        fakes.play(job)


@pytest.mark.parametrize(
    ("federation", "message"),
    [
        ({"algorithm": {"name": "fedprox"}}, "server.aggregate: algorithm fedprox needs"),
        ({"algorithm": {"name": "clustered"}}, "server: algorithm clustered needs optimizer sgd"),
        ({"algorithm": {"name": "ditto"}, "personal": ["w"]}, "personal: cannot be combined"),
        ({"algorithm": {"name": "fedfoo"}}, "'fedprox'"),
        (
            {"diagnostics": {"every": 1}, "privacy": {"level": "client", "noise": 1.0},
             "uplink": {"clip": 1.0}},
            "diagnostics: would tell",
        ),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(federation: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_experiment({"federation": federation})
