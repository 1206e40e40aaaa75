from __future__ import annotations

from typing import Any

import pytest

from bayfed.config.study import Heterogeneity, PerFedAvg, Study, parse_study
from bayfed.errors import ConfigError

GRID: dict[str, Any] = {
    "strategies": {
        "sgd": {"algorithm": "fedsgd"},
        "adam": {"algorithm": "fedavg", "optimizer": "adam", "lr": 0.001, "local_steps": 4},
        "scaffold": {"algorithm": "scaffold", "local_steps": 4},
        "maml": {"algorithm": "per-fedavg", "order": "hessian-free"},
    },
    "heterogeneity": {
        "alike": {"partition": "dirichlet", "alpha": 100},
        "sites": {},
        "dim": {"camera": 0.5},
    },
    "seeds": 3,
}


def test_a_grid_is_every_strategy_under_every_difference_and_seed() -> None:
    study = parse_study(GRID)
    cells = list(study.cells(7))
    assert len(cells) == len({cell.name for cell in cells}) == 4 * 3 * 3
    assert {cell.seed for cell in cells} == {7, 8, 9}
    assert isinstance(study.strategies["maml"], PerFedAvg)
    assert study.heterogeneity["dim"] == Heterogeneity(camera=0.5)
    assert Study.model_validate(study.model_dump()) == study


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategies": {}}, r"study\.strategies"),
        ({"strategies": {"a": {"algorithm": "fedfoo"}}}, r"study\.strategies\.a.*'fedprox'"),
        ({"strategies": {"a": {"algorithm": "fedavg", "mu": 1}}}, r"unknown setting.*mu"),
        ({"strategies": {"a": {"algorithm": "private", "prefixes": []}}}, "prefixes"),
        (
            {"strategies": {"a": {"algorithm": "clustered", "optimizer": "adam"}}},
            "clusters step with sgd",
        ),
        ({"heterogeneity": {"a": {"alpha": 0}}}, r"heterogeneity\.a\.alpha"),
        ({"heterogeneity": {"a": {"quantity": 0}}}, r"heterogeneity\.a\.quantity"),
        ({"seeds": 0}, r"study\.seeds"),
        ({"sedes": 1}, r"unknown setting 'study\.sedes'"),
        (
            {
                "strategies": {k: {"algorithm": "fedsgd"} for k in ("a", "a-b")},
                "heterogeneity": {"b-c": {}, "c": {}},
            },
            "two runs are called a-b-c-0",
        ),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        parse_study(GRID | change, "e.yaml")
    assert str(error.value).startswith("e.yaml: ")
    assert "\n" not in str(error.value)
