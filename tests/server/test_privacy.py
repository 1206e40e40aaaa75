from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bayfed.config import experiment_hash
from bayfed.errors import ConfigError
from server import checkpoints, history
from server.job import Job
from server.privacy import Guard
from strategies.privacy.accountant import Releases
from strategies.wire import Member
from tests import fakes

pytest.importorskip("dp_accounting", reason="dp-accounting is not installed")
CLIENT = {"level": "client", "noise": 6.0, "delta": 0.01, "reproducible": True}


class Counted(fakes.ToyFactory):
    """Each image is in as many episodes as the round's number."""

    images = 9

    def repeats(self, round: int) -> int:  # noqa: A002
        return round


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch, Counted)


def experiment(privacy: dict[str, Any], **federation: Any) -> Any:
    uplink = {"clip": 1.0} if privacy["level"] == "client" else {}
    return fakes.experiment(**{"privacy": privacy, "uplink": uplink, **federation})


def run(out: Path, privacy: dict[str, Any], resume: bool = False, **federation: Any) -> Job:
    job = Job(experiment(privacy, **federation), out, resume)
    fakes.play(job)
    return job


def epsilons(job: Job) -> list[float]:
    return [line["epsilon"] for line in history.read(job.history)]


def last(job: Job) -> checkpoints.Snapshot:
    found = checkpoints.latest(job.out / "checkpoints", experiment_hash(job.experiment))
    assert found is not None
    return found


def test_every_line_says_what_the_clients_privacy_has_cost(tmp_path: Path) -> None:
    job = run(tmp_path, CLIENT)
    expected = [Releases(6.0, rounds).epsilon(0.01) for rounds in range(5)]
    assert epsilons(job) == pytest.approx(expected)
    assert expected[0] == 0 < expected[1] < expected[4]


def test_the_run_ends_before_its_budget_with_an_evaluation(tmp_path: Path) -> None:
    budget = Releases(6.0, 3).epsilon(0.01)
    job = run(tmp_path, CLIENT | {"epsilon": budget})
    lines = history.read(job.history)
    assert [line["round"] for line in lines] == [0, 1, 2, 3]
    assert lines[-1]["mean_image_auroc"] is not None
    assert "ends after round 3" in (job.out / "server.log").read_text()


def test_a_budget_for_no_round_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"privacy.epsilon: 0.01 is passed by the first round"):
        run(tmp_path, CLIENT | {"epsilon": 0.01})


def test_delta_is_below_one_client_in_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"privacy.delta: 0.34 is not below 1 / 3"):
        run(tmp_path, CLIENT | {"delta": 0.34})


@pytest.mark.parametrize(
    "privacy",
    [
        CLIENT,
        CLIENT | {"added_by": "clients", "shares": 3},
        {"level": "image", "clip": 1.0, "noise": 9.0, "delta": 0.01, "reproducible": True},
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, privacy: Any) -> None:
    whole = run(tmp_path / "whole", privacy)
    run(tmp_path / "parts", privacy, rounds=2)
    parts = run(tmp_path / "parts", privacy, resume=True)
    assert torch.equal(last(whole).theta["w"], last(parts).theta["w"])
    assert epsilons(whole)[-1] == epsilons(parts)[-1]


def test_noise_of_the_system_makes_every_run_another(tmp_path: Path) -> None:
    private = CLIENT | {"reproducible": False}
    one, other = run(tmp_path / "a", private), run(tmp_path / "b", private)
    assert not torch.equal(last(one).theta["w"], last(other).theta["w"])


def test_the_mean_that_is_stepped_along_has_the_noise(tmp_path: Path) -> None:
    sgd = {"server": {"optimizer": "sgd", "lr": 1.0}, "rounds": 1}
    quiet = last(run(tmp_path / "quiet", CLIENT | {"noise": 1e-9}, **sgd)).theta["w"]
    loud = last(run(tmp_path / "loud", CLIENT | {"noise": 60.0}, **sgd)).theta["w"]
    assert 1.0 < (loud - quiet).norm().item() < 200.0  # 60 * 1.0 / 3 a coordinate


def test_the_norm_that_a_client_tells_is_that_of_what_it_sends(tmp_path: Path) -> None:
    job = run(tmp_path, CLIENT | {"added_by": "clients", "shares": 3, "noise": 1e4}, rounds=1)
    told = [client["update_norm"] for client in history.read(job.history)[-1]["clients"]]
    assert min(told) > 100.0  # 1e4 / sqrt(3) a coordinate; the updates are 1 at most


def test_too_few_clients_to_bear_the_noise_begin_no_run(tmp_path: Path) -> None:
    private = CLIENT | {"added_by": "clients", "shares": 4}
    with pytest.raises(ConfigError, match="shares: 4 are to bear the noise, 3 clients"):
        run(tmp_path, private)
    assert not (tmp_path / "checkpoints").exists()


def test_images_cost_what_the_client_that_shows_them_most_says(tmp_path: Path) -> None:
    private = {"level": "image", "clip": 1.0, "noise": 20.0, "delta": 0.01, "reproducible": True}
    job = run(tmp_path, private)
    found = epsilons(job)
    assert found[0] == 0 < found[1] < found[4]
    own = [c["epsilon"] for c in history.read(job.history)[-1]["clients"]]
    assert found[4] == pytest.approx(max(own))


def test_the_run_ends_before_the_budget_of_its_images(tmp_path: Path) -> None:
    private = {"level": "image", "clip": 1.0, "noise": 20.0, "delta": 0.01}
    budget = epsilons(run(tmp_path / "all", private))[2]
    job = run(tmp_path / "some", private | {"epsilon": budget + 1e-9})
    assert [line["round"] for line in history.read(job.history)] == [0, 1, 2]


def members(number: int) -> list[Member]:
    return [Member(c, f"factory{c}", c) for c in range(number)]


def test_each_client_is_drawn_on_its_own() -> None:
    private = CLIENT | {"adjacency": "add-or-remove", "delta": 1e-4}
    guard = Guard(experiment(private, fraction=0.25))
    everyone = members(200)
    guard.enrol(everyone)
    sizes = [len(guard.cohort(everyone, number) or []) for number in range(300)]
    assert sum(sizes) / len(sizes) == pytest.approx(50, abs=2)
    assert 30 < sum((size - 50) ** 2 for size in sizes) / len(sizes) < 46  # 200 * 1/4 * 3/4
    assert guard.cohort(everyone, 7) == guard.cohort(everyone, 7)


def test_a_draw_that_hides_does_not_follow_from_the_seed() -> None:
    guard = Guard(experiment(CLIENT | {"reproducible": False, "delta": 1e-4}, fraction=0.25))
    everyone = members(200)
    guard.enrol(everyone)
    drawn = guard.cohort(everyone, 7)
    assert drawn is not None
    assert len(drawn) == 50
    assert drawn != guard.cohort(everyone, 7)


def test_rounds_of_nobody_are_forestalled() -> None:
    guard = Guard(experiment(CLIENT | {"adjacency": "add-or-remove"}, fraction=0.25))
    with pytest.raises(ConfigError, match=r"federation.fraction: 5 clients a round"):
        guard.enrol(members(20))


@pytest.mark.parametrize(
    ("federation", "keys"),
    [
        ({"defence": {"rule": "median"}}, ("federation.defence.rule", "level: client")),
        ({"defence": {"norm": 3.0}}, ("federation.defence.norm", "level: client")),
        ({"personal": ["head"]}, ("federation.personal", "level: client")),
        ({"deadline": 5.0}, ("federation.deadline", "level: client")),
        ({"uplink": {}}, ("federation.uplink.clip", "level: client")),
    ],
)
def test_an_impossible_pair_names_both_keys(federation: Any, keys: tuple[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        experiment(CLIENT, **federation)
    assert all(key in str(caught.value) for key in keys)


def test_shares_of_noise_are_sent_whole() -> None:
    private = CLIENT | {"added_by": "clients", "shares": 2}
    with pytest.raises(ConfigError, match=r"federation.uplink.bits: .*added_by: clients"):
        experiment(private, uplink={"clip": 1.0, "bits": 8})
    experiment(CLIENT, uplink={"clip": 1.0, "bits": 8})  # the server clips what it decodes


def test_pairs_that_hide_no_image() -> None:
    image = {"level": "image", "clip": 1.0, "noise": 1.0}
    with pytest.raises(ConfigError, match=r"federation.server.aggregate: .*level: image"):
        experiment(image, server={"aggregate": "parameters"})
    for wrong in ({"adjacency": "add-or-remove"}, {"clip": None}, {"noise": None}):
        with pytest.raises(ConfigError):
            experiment(image | wrong)


def test_compressed_updates_are_clipped_again(tmp_path: Path) -> None:
    job = run(tmp_path, CLIENT | {"noise": 1e-9}, uplink={"clip": 0.01, "bits": 2}, rounds=1)
    assert history.read(job.history)[-1]["update_norm"] <= 0.01 * (1 + 1e-4)
