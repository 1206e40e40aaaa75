from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bayfed.config import experiment_hash
from bayfed.errors import ConfigError, FederationError
from experiments import cluster
from experiments.cluster import Cluster, Machine
from experiments.resolve import resolve
from experiments.run import run_in_process
from experiments.simulation import simulate, simulation_options
from server import checkpoints
from server.job import Job

TINY = str(Path(__file__).with_name("tiny.yaml"))
TWO_MACHINES = """
import sys
from ray.cluster_utils import Cluster
machines = Cluster()
for home in sys.argv[1:]:
    machines.add_node(
        num_cpus=1, object_store_memory=80 << 20, include_dashboard=False, env_vars={"HOME": home}
    )
print(machines.address, flush=True)
sys.stdin.read()
machines.shutdown()
"""


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[Path]]]:
    """Return the address of two nodes of one CPU, and the home that each has for itself."""
    homes = [tmp_path / "first", tmp_path / "second"]
    with subprocess.Popen(
        [sys.executable, "-c", TWO_MACHINES, *map(str, homes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
        text=True,
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        monkeypatch.setenv("RAY_ADDRESS", address)
        yield address, homes
        process.communicate("")


@pytest.mark.ray
def test_two_machines_give_the_numbers_of_one_process(
    machines: tuple[str, list[Path]], tmp_path: Path
) -> None:
    address, homes = machines
    assert cluster.find() == Cluster(address, (Machine(1.0, 0.0), Machine(1.0, 0.0)))
    one = resolve(TINY, ["federation.backend=inprocess"], tmp_path / "one")
    two = resolve(TINY, (), tmp_path / "two")
    run_in_process(one, 3)
    simulate(two, 3)
    identity = experiment_hash(one.experiment)
    expected, got = (checkpoints.latest(job.out / "checkpoints", identity) for job in (one, two))
    assert expected is not None
    assert got is not None
    assert expected.theta.keys() == got.theta.keys()
    assert all(torch.equal(got.theta[name], value) for name, value in expected.theta.items())
    # Each machine has a store of its own, which clients that it played have filled.
    assert [len(list(home.rglob("*.npy"))) > 0 for home in homes] == [True, True]


def test_no_address_means_a_cluster_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for named in ("", "local"):
        monkeypatch.setenv("RAY_ADDRESS", named)
        assert cluster.find() is None
        assert cluster.environment(Path("/app"), {}) == {"RAY_ADDRESS": "local"}


def test_who_joins_a_cluster_brings_no_cpus_but_the_sources(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "plant:6379")
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert "init-args" not in simulation_options(Job(resolve(TINY).experiment, tmp_path), 3)
    added = cluster.environment(Path("/app"), {"OMP_NUM_THREADS": "1", "HOME": "/root"})
    sent = {"working_dir": "/app", "env_vars": {"OMP_NUM_THREADS": "1"}}
    assert json.loads(added.pop("RAY_JOB_CONFIG_JSON_ENV_VAR")) == {"runtime_env": sent}
    assert not added


def test_what_a_job_of_rays_was_given_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "plant:6379")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert cluster.environment(Path("/app"), {}) == {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}


def test_a_cluster_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(FederationError, match=r"^RAY_ADDRESS: 127\.0\.0\.1:1: .*refused"):
        cluster.find()


def test_an_address_of_another_service_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://plant:10001")
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS: ray://plant:10001: give .* HOST:PORT"):
        cluster.find()


def test_the_user_is_told_how_many_work() -> None:
    found = Cluster("plant:6379", (Machine(4, 1), Machine(8, 0)))
    assert "machines 2, workers 12 " in found.describe(0)
    assert "machines 2, workers 2 " in found.describe(0.5)
    with pytest.raises(ConfigError, match=r"no machine of plant:6379 has a CPU and 0\.5 of a GPU"):
        Cluster("plant:6379", (Machine(8, 0),)).describe(0.5)
