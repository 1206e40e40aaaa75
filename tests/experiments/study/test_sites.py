from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bayfed.config import Experiment, load_experiment
from bayfed.errors import ConfigError
from experiments.resolve import BUNDLED
from experiments.study import theory
from experiments.study.checks import clients, deterministic, stochastic
from experiments.study.floors import drift, first_order
from experiments.study.frozen import Frozen, freeze
from experiments.study.outcome import Check
from experiments.study.rules import Clients, Deterministic, Drift, FirstOrder, Rules, Stochastic
from experiments.study.sites import Sites
from experiments.study.subject import Subject
from strategies.algorithm import Sent
from strategies.averaging import Averaging
from strategies.local import plus
from strategies.perfedavg import PerFedAvg
from strategies.task import Params
from tests import toys

SHARED = Path(__file__).parents[3].parent / "shared"
SITES = SHARED / "data" / "sites"
WEIGHTS = SHARED / "weights" / "mobilenetv2_100_imagenet.safetensors"
BRIEF = Rules(
    Deterministic(rounds=4),
    Stochastic(lengths=(1, 2, 4), repeats=1),
    Clients(numbers=(1, 2, 4), shares=(0.1,), rounds=(3,), repeats=1),
    FirstOrder(alphas=(0.01, 0.02, 0.04), fitted=3, rounds=1),
    Drift(counts=(1, 2, 3, 4), rounds=(1, 2)),
    looks=2,
)


def experiment(folder: Path, seed: int = 0, **method: object) -> Experiment:
    backbone = {"name": toys.TIMM, "trainable": "head", "weights": str(folder / "w.safetensors")}
    if not (folder / "w.safetensors").exists():
        toys.weights_file(folder / "w.safetensors")
    own = {"top_k": 1.0, "inner": {"steps": 0}, "loss": {"contrastive": 0, "dense": 1.0}}
    return toys.experiment(
        seed=seed,
        backbone=backbone,
        store={"directory": str(folder / "store"), "dtype": "float32"},
        method=own | method,
        federation={"episodes": 3},
    )


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Frozen:
    return freeze(experiment(tmp_path_factory.mktemp("sites")), 3)


def along(theta: Params, seed: int = 0) -> Params:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(value.shape, generator=generator, dtype=value.dtype)
        for name, value in theta.items()
    }


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_the_gradient_is_that_of_the_value(frozen: Frozen, alpha: float) -> None:
    objective, theta = Sites(frozen, alpha=alpha).objective, frozen.theta
    way, step = along(theta), 1e-5
    ends = (objective.value(plus(theta, way, sign * step)) for sign in (1, -1))
    quotient = (next(ends) - next(ends)) / (2 * step)
    gradient = objective.gradient(theta)
    expected = sum(float((gradient[name] * way[name]).sum()) for name in way)
    assert quotient == pytest.approx(expected, rel=1e-5)


def test_f_is_the_mean_over_sites_in_double_precision(frozen: Frozen) -> None:
    subject, theta = Sites(frozen, at_bottom=frozen.theta), frozen.theta
    losses = [task.loss(theta, task.batch(1, 0))[0] for task in subject.exactly().values()]
    assert {loss.dtype for loss in losses} == {torch.float64}
    mean = float(torch.stack(losses).detach().mean())
    assert subject.objective.value(theta) == pytest.approx(mean, rel=1e-12)
    assert subject.alike().objective.value(theta) == pytest.approx(mean, rel=1e-12)


def test_a_step_of_no_length_changes_nothing(frozen: Frozen) -> None:
    plain, after = Sites(frozen).objective, Sites(frozen, alpha=1e-12).objective
    assert after.value(frozen.theta) == pytest.approx(plain.value(frozen.theta), rel=1e-9)


def test_the_variance_is_that_of_single_episodes(frozen: Frozen) -> None:
    subject, theta, found = Sites(frozen), frozen.theta, []
    for task in subject.exactly().values():
        every = task.batch(1, 0)
        each = torch.stack([flat(task, theta, every[i : i + 1]) for i in range(len(every))])
        found.append(float(each.var(dim=0, correction=0).sum()))
    assert subject.objective.variance(theta) == pytest.approx(sum(found) / len(found))


def flat(task: object, theta: Params, batch: object) -> torch.Tensor:
    leaves = {name: value.clone().requires_grad_() for name, value in theta.items()}
    loss, _ = task.loss(leaves, batch)  # type: ignore[attr-defined]
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    pairs = zip(found, leaves.values(), strict=True)
    return torch.cat([(torch.zeros_like(v) if g is None else g).flatten() for g, v in pairs])


def test_batches_are_single_frozen_episodes_and_depend_on_their_noise(frozen: Frozen) -> None:
    subject = Sites(frozen)
    name = next(iter(frozen.episodes))
    own = frozen.episodes[name].query
    drawn = [
        [subject.noisy(noise)[name].batch(n, 0).query for n in range(20)] for noise in (0, 0, 1)
    ]
    assert all(any(torch.equal(q[0], one) for one in own) for q in drawn[0])
    same, other = (
        [torch.equal(a, b) for a, b in zip(drawn[0], drawn[i], strict=True)] for i in (1, 2)
    )
    assert all(same)
    assert not all(other)


def test_the_seed_chooses_episodes_and_batches(frozen: Frozen, tmp_path: Path) -> None:
    same, other = (freeze(experiment(tmp_path, seed), 3) for seed in (0, 1))
    for name, own in frozen.episodes.items():
        assert torch.equal(own.query, same.episodes[name].query)
        assert not torch.equal(own.query, other.episodes[name].query)
    name = next(iter(frozen.episodes))
    drawn = [
        [Sites(replace(frozen, seed=seed)).noisy(0)[name].batch(n, 0).query for n in range(20)]
        for seed in (0, 1)
    ]
    assert not all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))


@pytest.mark.skipif(not SITES.is_dir(), reason="../shared/data is not here")
@pytest.mark.skipif(not WEIGHTS.is_file(), reason="../shared/weights is not here")
@pytest.mark.parametrize("name", ["theory", "theory_smooth"])
def test_two_real_sites(name: str) -> None:
    words = ["data.sites=[ac_piston, tire]", "data.families={}", "federation.episodes=2"]
    words += [f"data.root={SITES}", f"backbone.weights={WEIGHTS}"]
    found = freeze(load_experiment(BUNDLED / f"{name}.yaml", words), 16)
    subject = Sites(found, at_bottom=found.theta)
    assert list(subject.exactly()) == ["ac_piston", "tire"]
    assert math.isfinite(subject.objective.value(subject.start()))
    moved = subject.objective.gradient(subject.start())
    assert bool(moved["head.weight"].any()) is (name == "theory")


def test_any_number_of_clients_draws_from_the_episodes_of_all_sites(frozen: Frozen) -> None:
    pooled = Sites(frozen, at_bottom=frozen.theta).alike().noisy(0, 5)
    everyone = torch.cat([batch.query for batch in frozen.episodes.values()])
    sites = {
        i // 3
        for task in pooled.values()
        for n in range(10)
        for i, one in enumerate(everyone)
        if torch.equal(one, task.batch(n, 0).query[0])
    }
    assert len(pooled) == 5
    assert sites == {0, 1}


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"backbone\.trainable"):
        freeze(toys.experiment(store={"directory": str(tmp_path)}), 3)
    with pytest.raises(ConfigError, match="--directions"):
        freeze(experiment(tmp_path), 10_000)
    with pytest.raises(ConfigError, match=r"method\.rates"):
        freeze(experiment(tmp_path, rates={"": 0.0}), 3)


@pytest.mark.parametrize("check", [deterministic, stochastic, clients, first_order, drift])
def test_every_check_takes_real_sites(frozen: Frozen, check: theory.Shared) -> None:
    found = check(Sites(frozen, rules=BRIEF, at_bottom=frozen.theta))
    assert found.name == check.__name__
    assert found.marks
    assert all(mark.y > 0 for mark in found.marks)


def test_exact_per_fedavg_follows_the_gradient_of_f_after_a_step(frozen: Frozen) -> None:
    subject, theta = Sites(frozen, alpha=0.1, at_bottom=frozen.theta), frozen.theta
    algorithm = PerFedAvg(Averaging(local_lr=1.0), 0.1)
    tasks = subject.exactly().values()
    each = [algorithm.client(task, Sent(theta), {}, 1)[0].tensors for task in tasks]
    gradient = subject.objective.gradient(theta)
    for name, value in gradient.items():
        torch.testing.assert_close(torch.stack([one[name] for one in each]).mean(0), value)


def test_the_command_takes_sites_and_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Subject] = []

    def toy(subject: Subject) -> Check:
        asked.append(subject)
        return Check("toy", "A claim.", "a rule.", "all.", True, {}, "x", ())

    monkeypatch.setattr(theory, "SHARED", {"toy": toy})
    monkeypatch.setattr(theory, "load_experiment", lambda *_: experiment(tmp_path))
    theory.main(tmp_path / "out", data=tmp_path, directions=3)
    assert "2 real sites" in (tmp_path / "out" / "summary.md").read_text()
    assert len(asked[0].exactly()) == 2
    with pytest.raises(theory.typer.Exit) as exit_:
        theory.main(tmp_path / "out", data=tmp_path, directions=10_000)
    assert exit_.value.exit_code == 2
    assert "--directions" in capsys.readouterr().out
