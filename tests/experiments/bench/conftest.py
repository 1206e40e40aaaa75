from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from experiments.bench import report as module
from experiments.bench.request import Request
from experiments.bench.run import run

TINY: dict[str, Any] = {
    "name": "tiny",
    "device": "cpu",
    "data": {
        "synthetic": {
            "products": 3, "size": 32, "train_good": 9, "test_good": 4, "per_defect": 2,
            "kinds": ["hole", "stain"],
        },
        "pasted": {"per_site": 4},
    },
    "backbone": {"name": "conv4", "image_size": 32, "grid": 4, "width": 4, "stages": [1, 2]},
    "method": {"inner": {"steps": 1}},
    "episode": {"shots": 3, "normals": 2, "anomalies": 2},
    "federation": {"rounds": 1, "episodes": 1, "server": {"lr": 0.05}},
    "evaluation": {"shots": 3, "draws": 2, "heatmaps": 0},
}  # fmt: skip

Benching = Callable[..., Path]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def benching(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Benching:
    """Return a function that benches tiny sites into a folder and returns it."""

    def bench(
        out: str = "out",
        section: dict[str, Any] | None = None,
        report: bool = False,
        **options: Any,
    ) -> Path:
        if not report:  # the plots take longer than the bench
            monkeypatch.setattr(module, "write_bench_report", lambda folder, _: folder)
        file = tmp_path / "tiny.yaml"
        tree = {**TINY, "store": {"directory": str(store)}, "bench": section or {}}
        file.write_text(yaml.safe_dump(tree))
        options = {"workers": 1, "out": tmp_path / out, **options}
        run(Request(str(file), **options), Console(file=io.StringIO()))
        return tmp_path / out

    return bench
