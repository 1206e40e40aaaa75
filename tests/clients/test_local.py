from __future__ import annotations

from pathlib import Path

import pytest

from bayfed.config import Experiment, parse_experiment
from bayfed.errors import ConfigError
from clients.local import LocalPaths, in_process, localise, simulated

NAMED = {
    "data.root": ({"data": {"source": "folders", "root": "/server/data"}}, "data-dir"),
    "backbone.weights": ({"backbone": {"weights": "/server/w.safetensors"}}, "weights"),
    "store.directory": ({"store": {"directory": "/server/store"}}, "store-dir"),
}


@pytest.mark.parametrize("key", NAMED)
def test_a_real_node_refuses_a_path_named_by_the_server(key: str) -> None:
    settings, option = NAMED[key]
    with pytest.raises(ConfigError, match=f"{key}.*{option}"):
        localise(parse_experiment(settings), LocalPaths())


@pytest.mark.parametrize("key", NAMED)
def test_a_real_node_puts_its_own_path_in_place(key: str) -> None:
    settings, option = NAMED[key]
    local = localise(parse_experiment(settings), LocalPaths.of({option: "/own"}))
    group, field = key.split(".")
    assert getattr(getattr(local, group), field) == Path("/own")


def test_a_simulated_node_opens_what_the_experiment_names() -> None:
    experiment = parse_experiment(NAMED["data.root"][0])
    assert not simulated()
    with in_process():
        assert simulated()
        assert localise(experiment, LocalPaths()) == experiment
    assert not simulated()


def test_nothing_named_is_nothing_refused() -> None:
    assert localise(Experiment(), LocalPaths()) == Experiment()
