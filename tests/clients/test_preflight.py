from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bayfed.errors import BayfedError, ConfigError, ProtocolError, WeightsError
from clients import factory as problem
from clients.preflight import check_settings
from experiments.run import start
from server.job import Job
from tests import toys

FROZEN = {"name": toys.TIMM, "trainable": "head"}


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ({"backbone": FROZEN | {"name": "resnet0"}}, ConfigError, "backbone.name: .*'resnet0'"),
        ({"backbone": FROZEN | {"stages": [1, 9]}}, ConfigError, "backbone.stages: .*9"),
        ({"backbone": {"stages": [7]}}, ConfigError, "backbone.stages: conv4 has stages 0 to 3"),
        ({"backbone": {"trainable": "head"}}, ConfigError, "backbone.trainable: conv4"),
        ({"backbone": {"weights": "w.safetensors"}}, ConfigError, "backbone.weights: conv4"),
        ({"device": "cuda"}, ConfigError, "device: cuda is asked for"),
        (
            {"protocol": {"name": "new-product", "holdout": ["absent"]}},
            ProtocolError,
            "protocol.holdout: .*'absent'",
        ),
        (
            {"federation": {"clients": {"partition": "group", "number": 9}}},
            ConfigError,
            "federation.clients.number: 9 clients",
        ),
        ({"data": {"sites": ["absent"]}}, ConfigError, "data.sites: no site 'absent'"),
        (
            {"federation": {"clients": {"partition": "dirichlet", "number": 3, "alpha": 0.01}}},
            ConfigError,
            "federation.clients.alpha: ",
        ),
        (
            {"federation": {"clients": {"partition": "resample", "share": 0.5}}},
            ConfigError,
            "federation.clients.share: leaves bolt_00_000 4 good images",
        ),
        (
            {"federation": {"clients": {"partition": "resample", "number": 3, "share": 1.0}}},
            ConfigError,
            "federation.clients.number: 2 clients at site bolt_00, of whose 8 .* in 1 way; lower",
        ),
        (
            {"data": {"skew": {"quantity": 0.9}}},
            ConfigError,
            "data.skew.quantity: leaves .* too few for an episode; lower it",
        ),
        (
            {"data": {"skew": {"noise": 0.5}}},
            ConfigError,
            "data.skew.noise: 0.5 needs 4 defects of site bolt_00, which can give 0 of its 2",
        ),
    ],
)
def test_what_every_client_would_find_is_found_without_them(
    groups: dict[str, Any],
    error: type[BayfedError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(error, match=message) as caught:
        check_settings(toys.experiment(**groups))
    assert "\n" not in str(caught.value)


def test_weights_are_looked_into(tmp_path: Path) -> None:
    path = toys.weights_file(tmp_path / "resnet.safetensors", "test_resnet")
    check_settings(toys.experiment(backbone=FROZEN))
    with pytest.raises(WeightsError, match=rf"^{path}: weights of another model"):
        check_settings(toys.experiment(backbone=FROZEN | {"weights": str(path)}))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(WeightsError, match=rf"^{path}: not a safetensors"):
        check_settings(toys.experiment(backbone=FROZEN | {"weights": str(path)}))
    path.unlink()
    with pytest.raises(WeightsError, match=rf"^{path}: No such file"):
        check_settings(toys.experiment(backbone=FROZEN | {"weights": str(path)}))


def test_the_real_problem_has_what_the_server_calls() -> None:
    assert problem.check_settings is check_settings


def test_a_site_without_defects_fails_the_run_before_its_first_checkpoint(tmp_path: Path) -> None:
    store = {"directory": str(tmp_path / "store")}
    job = Job(toys.experiment(data={"pasted": {"per_site": 0}}, store=store), tmp_path / "run")
    with pytest.raises(BayfedError, match=r"site bolt_00: no defects .* data\.pasted\.per_site"):
        start(job, 2)
    assert not (job.out / "checkpoints").exists()
    assert not job.history.exists()
    assert not (tmp_path / "store").exists()


def test_a_run_of_no_rounds_needs_no_defects_to_train_on(tmp_path: Path) -> None:
    experiment = toys.experiment(
        data={"pasted": {"per_site": 0}},
        federation={"rounds": 0},
        store={"directory": str(tmp_path / "store")},
    )
    assert problem.Factory.open(experiment, 0).describe()["train_anomalies"] == 0
