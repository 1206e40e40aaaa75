from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bayfed.config import Experiment, parse_experiment
from bayfed.data import site_names
from bayfed.errors import ConfigError, ProtocolError
from clients.local import LocalPaths, in_process, localise, simulated
from clients.partition import whole

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


def test_a_real_node_fetches_no_weights_for_the_server(tmp_path: Path) -> None:
    experiment = parse_experiment({"backbone": {"name": "resnet18", "pretrained": True}})
    with pytest.raises(ConfigError, match=r"backbone\.pretrained: this node fetches no weights"):
        localise(experiment, LocalPaths())
    with in_process():
        assert localise(experiment, LocalPaths()) == experiment
    weights = tmp_path / "w.safetensors"
    assert localise(experiment, LocalPaths(weights=weights)).backbone.weights == weights


@pytest.mark.parametrize("key", NAMED)
def test_a_real_node_puts_its_own_path_in_place(key: str, tmp_path: Path) -> None:
    settings, option = NAMED[key]
    (tmp_path / "part" / "train" / "good").mkdir(parents=True)
    local = localise(parse_experiment(settings), LocalPaths.of({option: str(tmp_path)}))
    group, field = key.split(".")
    assert getattr(getattr(local, group), field) == tmp_path


def test_a_simulated_node_opens_what_the_experiment_names() -> None:
    experiment = parse_experiment(NAMED["data.root"][0])
    assert not simulated()
    with in_process():
        assert simulated()
        assert localise(experiment, LocalPaths()) == experiment
    assert not simulated()


def test_nothing_named_is_nothing_refused() -> None:
    assert localise(Experiment(), LocalPaths()) == Experiment()


def node(root: Path, *sites: str) -> LocalPaths:
    """A node with folders in MVTec's layout."""
    for site in sites:
        (root / site / "train" / "good").mkdir(parents=True)
    return LocalPaths(data_dir=root)


def asked(holdout: list[str], **data: Any) -> Experiment:
    protocol = {"name": "new-product", "holdout": holdout} if holdout else {}
    data = {"source": "folders", "root": "/server", "layout": "mvtec", **data}
    return parse_experiment({"data": data, "protocol": protocol})


@pytest.mark.parametrize(
    ("holdout", "families", "known"),
    [
        (["elsewhere"], {}, ()),
        (["nut", "elsewhere"], {}, ("nut",)),
        (["steel"], {"steel": ["nut", "elsewhere"]}, ("steel",)),
        (["steel"], {"steel": ["elsewhere"]}, ()),
    ],
)
def test_a_node_leaves_out_what_is_held_out_elsewhere(
    tmp_path: Path, holdout: list[str], families: dict[str, list[str]], known: tuple[str, ...]
) -> None:
    own = localise(asked(holdout, families=families), node(tmp_path, "bolt", "nut"))
    assert own.protocol.holdout == known
    assert site_names(own.data, own.seed)  # its settings fit its folder
    assert whole(own).training == (("bolt",) if known else ("bolt", "nut"))


def test_a_node_takes_part_with_the_chosen_sites_that_it_has(tmp_path: Path) -> None:
    own = localise(asked([], sites=["nut", "elsewhere"]), node(tmp_path, "bolt", "nut"))
    assert own.data.sites == ("nut",)


def test_a_node_without_any_chosen_site_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^data\.sites: this node has none of elsewhere$"):
        localise(asked([], sites=["elsewhere"]), node(tmp_path, "bolt"))


def test_a_family_over_several_nodes_is_held_out_whole(tmp_path: Path) -> None:
    steel = {"steel": ["nut", "elsewhere"]}
    for holdout in (["elsewhere"], ["nut"]):
        with pytest.raises(ProtocolError, match="held-out family 'steel'; name the family"):
            localise(asked(holdout, families=steel), node(tmp_path / holdout[0], "bolt", "nut"))
