from __future__ import annotations

from pathlib import Path

import pytest

from bayfed.errors import FederationError
from bayfed.evaluation.table import read_rows
from experiments import three_nodes
from experiments.deployment import folders
from server import history


@pytest.mark.xdist_group("ray")  # not beside a Ray: each would like both cores
def test_three_real_nodes_train_on_their_own_folders(tmp_path: Path) -> None:
    # At the image grain an evaluation is one exchange; each costs three seconds of waiting.
    settings = ["federation.timeout=240", "method.grain=image"]
    words = [word for setting in settings for word in ("--set", setting)]
    out = tmp_path / "run"
    assert three_nodes.main([*words, "--out", str(out)]) == 0
    lines = history.read(out / "metrics.jsonl")
    assert [line["round"] for line in lines] == [0, 1, 2, 3]
    names = {client["name"] for client in lines[-1]["clients"]}
    assert len(names) == 3
    assert {row.site for row in read_rows(out / "results.csv")} == names
    # Every message was answered by a process that found the libraries loaded.
    assert "flwr-clientapp" not in (out / "flower.log").read_text()


def test_too_few_folders_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with pytest.raises(FederationError, match="3 folders are needed, 1 found"):
        folders(tmp_path, 3)
    with pytest.raises(FederationError, match="nowhere: No such file"):
        folders(tmp_path / "nowhere", 3)


def test_a_mistake_in_the_script_is_an_exit_code(tmp_path: Path) -> None:
    words = ["nowhere", "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    for name in "abc":
        (tmp_path / name).mkdir()
    assert three_nodes.main(words) == 2
