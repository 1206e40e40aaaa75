from __future__ import annotations

from pathlib import Path

import yaml

from bayfed.config import load_experiment
from bayfed.config.study import load_study, parse_study

GRID = {
    "strategies": {"sgd": {"server": {"optimizer": "sgd"}}, "b": {}, "c": {}, "d": {}},
    "heterogeneity": {"alike": {"seed": 3}, "sites": {}, "dim": {"episode": {"shots": 7}}},
    "seeds": 3,
}


def test_a_grid_is_every_strategy_under_every_difference_and_seed() -> None:
    cells = list(parse_study(GRID).cells(7))
    assert len(cells) == len({cell.name for cell in cells}) == 4 * 3 * 3
    assert {cell.seed for cell in cells} == {7, 8, 9}


def test_a_run_has_the_settings_of_its_cell_and_a_plain_run_those_of_none(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(yaml.safe_dump({"seed": 5, "study": GRID}))
    cells, study = load_study(path, ["federation.rounds=3"])
    assert study.seeds == 3
    of = {cell.name: experiment for cell, experiment in cells.items()}
    assert of["sgd-dim-6"].federation.server.optimizer == "sgd"
    assert of["sgd-dim-6"].episode.shots == 7
    assert of["b-alike-5"].seed == 5  # that of the replicate, whatever a cell says
    assert {e.federation.rounds for e in cells.values()} == {3}
    assert load_experiment(path).episode.shots == 5
