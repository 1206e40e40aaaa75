from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bayfed.config import Experiment, dump_experiment, experiment_hash, parse_experiment
from bayfed.evaluation.checkpoint import Snapshot
from bayfed.evaluation.summary import CONTROL, TRAINED
from bayfed.evaluation.table import ResultRow, append_rows
from bayfed.features import Params
from bayfed.seeds import torch_stream
from clients.factory import Factory, client_specs, initial_parameters
from server import checkpoints

FinishedRun = Callable[..., Path]

TREE: dict[str, Any] = {
    "seed": 3,
    "device": "cpu",
    "data": {
        "synthetic": {
            "products": 4,
            "size": 32,
            "train_good": 12,
            "test_good": 5,
            "per_defect": 2,
            "kinds": ["hole", "scratch"],
        },
        "pasted": {"per_site": 2},
    },
    "backbone": {"width": 8, "image_size": 32, "grid": 4, "stages": [2, 3]},
    "method": {"inner": {"steps": 1}},
    "episode": {"shots": 3, "normals": 2, "anomalies": 2},
    "evaluation": {"shots": 3, "draws": 2, "heatmaps": 2},
}


def _moved(theta: Params) -> Params:
    generator = torch_stream(0, "moved")
    return {k: v + 0.02 * torch.randn(v.shape, generator=generator) for k, v in theta.items()}


def _evaluated(
    experiment: Experiment, theta: Params
) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """Return the rows and the pooled calibration, computed as a federation would."""
    names = range(len(client_specs(experiment)))
    factories = [Factory.open(experiment, i) for i in names]
    pooled: dict[str, torch.Tensor] = {}
    for _ in range(2):
        sums = [f.calibrate(theta, pooled) for f in factories if f.trains]
        pooled |= {key: torch.stack([s[key] for s in sums]).sum(0) for key in sums[0]}
    return [row for f in factories for row in f.evaluate(theta, pooled)], pooled


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Return a function that writes the folder of a finished run without running it."""
    store = tmp_path_factory.mktemp("store")

    def finish(**changes: Any) -> Path:
        tree = TREE | {"store": {"directory": str(store)}} | changes
        experiment = parse_experiment(tree)
        folder = tmp_path_factory.mktemp("runs") / "run"
        folder.mkdir()
        (folder / "config.yaml").write_text(dump_experiment(experiment))
        theta = initial_parameters(experiment, None)
        for number, arm, params in ((0, CONTROL, theta), (4, TRAINED, _moved(theta))):
            rows, pooled = _evaluated(experiment, params)
            snapshot = Snapshot(number, params, {}, calibration=pooled)
            checkpoints.write(folder / "checkpoints", snapshot, experiment_hash(experiment))
            results = [ResultRow(run="run", arm=arm, round=number, **row) for row in rows]
            append_rows(folder / "results.csv", results)
        return folder

    return finish


@pytest.fixture(scope="session")
def new_product(finished: FinishedRun) -> Path:
    """Folder of a run that never saw the bolt."""
    return finished(protocol={"name": "new-product", "holdout": ["bolt"]})


@pytest.fixture(scope="session")
def standard(finished: FinishedRun) -> Path:
    """Folder of a run under the standard protocol."""
    return finished()
