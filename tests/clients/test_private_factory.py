from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from bayfed.config import Experiment
from bayfed.errors import ConfigError
from bayfed.evaluation.report_tables import privacy_table
from bayfed.features import StoredFeatures
from bayfed.methods.tokens import shortened
from bayfed.normality.statistics import sufficient_statistics
from clients.factory import Factory, initial_parameters
from strategies.averaging import Averaging
from strategies.privacy.images import ImageLevel
from strategies.privacy.statistics import NORM, PrivateStatistics
from strategies.task import norm
from tests import toys

CLIENT = {"level": "client", "noise": 1e-9, "features": 0.5, "reproducible": True}
POOLED = {"inner": {"steps": 0}, "prior": {"init": "empirical-bayes", "covariance": "full"}}


def make(folder: Path, **groups: Any) -> Experiment:
    return toys.experiment(**{"store": {"directory": str(folder / "store")}, **groups})


def test_an_image_takes_part_where_it_is_read_or_painted_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = {"local_steps": 2}
    factory = Factory.open(make(tmp_path, federation={"episodes": 5, "server": server}), 0)
    told = {number: factory.repeats(number) for number in (1, 2, 3)}
    reads: list[list[str]] = []
    original = StoredFeatures.read

    def read(self: StoredFeatures, names: list[str], *rest: Any) -> Any:
        reads.append(list(names))
        return original(self, names, *rest)

    monkeypatch.setattr(StoredFeatures, "read", read)
    pools = factory._holdings[0].pools
    base = {image.name: image.base or image.name for image in pools.training}
    for number, expected in told.items():
        reads.clear()
        for step in range(2):
            factory.batch(number, step)
        episodes = [{*a, *b} for a, b in zip(reads[::2], reads[1::2], strict=True)]
        content = [{*names, *(base[name] for name in names)} for names in episodes]
        assert len(content) == 10
        assert max(Counter(name for one in content for name in one).values()) == expected


def test_the_update_of_a_real_client_hides_its_images(tmp_path: Path) -> None:
    pytest.importorskip("dp_accounting", reason="dp-accounting is not installed")
    experiment = make(
        tmp_path,
        federation={
            "privacy": {"level": "image", "clip": 1e-3, "noise": 1e-9, "reproducible": True}
        },
    )
    factory, private = Factory.open(experiment, 0), ImageLevel.of(experiment)
    assert private is not None
    theta = initial_parameters(experiment, None)
    update = private.update(factory, theta, Averaging.of(experiment), 1)
    assert 0 < norm(update.tensors) <= 1e-3 * (1 + 1e-4)
    assert update.metrics["epsilon"] <= update.metrics["epsilon_next"]


def test_statistics_of_a_client_are_bounded_and_make_its_prior(tmp_path: Path) -> None:
    federation = {"privacy": CLIENT, "uplink": {"clip": 1.0}}
    experiment = make(tmp_path, method=POOLED, federation=federation)
    private = PrivateStatistics.of(experiment)
    assert private is not None
    parts = [Factory.open(experiment, client).statistics() for client in range(2)]
    assert all(norm(part) <= NORM for part in parts)
    total = {name: parts[0][name] + parts[1][name] for name in parts[0]}
    theta = initial_parameters(experiment, private.release(total, 2))
    assert all(bool(torch.isfinite(value).all()) for value in theta.values())
    assert float(theta["prior.mean"].norm()) <= 0.5 * (1 + 1e-6)


def test_no_embedding_is_longer_than_the_limit() -> None:
    method, tokens = toys.method(channels=3, grid=2), 4 * torch.randn(6, 4, 3)
    params = method.initial(0)
    found = method.statistics(params, tokens, 1.0, 2.0)
    cut = sufficient_statistics(shortened(tokens, 2.0).double().flatten(0, 1))
    torch.testing.assert_close(found["mean"], cut.mean)
    share = found["count"] / cut.count
    torch.testing.assert_close(found["within"], share * cut.scatter)


def test_pooled_statistics_need_a_limit(tmp_path: Path) -> None:
    unbounded = {"privacy": CLIENT | {"features": None}, "uplink": {"clip": 1.0}}
    with pytest.raises(ConfigError, match=r"privacy.features: .*method.prior.init"):
        make(tmp_path, method=POOLED, federation=unbounded)
    image = {"privacy": {"level": "image", "clip": 1.0, "noise": 1.0}}
    with pytest.raises(ConfigError, match=r"method.prior.init: .*level: image"):
        make(tmp_path, method=POOLED, federation=image)


def test_the_report_says_what_is_promised(tmp_path: Path) -> None:
    federation = {"privacy": CLIENT, "uplink": {"clip": 1.0}}
    told = privacy_table(make(tmp_path, federation=federation), [{"epsilon": 0}, {"epsilon": 2.5}])
    assert told["Privacy"].startswith("of each client, epsilon 2.500 at delta 1e-05")
    assert privacy_table(make(tmp_path), []) == {}
