"""Products from a finished run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bayfed.config import dump_experiment, experiment_hash
from bayfed.errors import CheckpointError, ConfigError
from bayfed.product import Detector, Source, from_run
from bayfed.product.source import build
from server import checkpoints
from tests.product.conftest import defect, goods


@pytest.fixture
def run(tmp_path: Path, source: Source) -> Path:
    """A run in which the factory of ``bolt`` has a residual and that of two others has one too."""
    method = build(source.experiment).method
    theta = method.initial(7)
    residuals = {client: {"prior.log_scale": torch.full_like(theta["prior.log_scale"], shift)}
                 for client, shift in (("bolt", 1.0), ("nut+cap", 2.0))}  # fmt: skip
    personal = checkpoints.flat(residuals)
    (tmp_path / "run").mkdir()
    text = dump_experiment(source.experiment)
    (tmp_path / "run" / "config.yaml").write_text(text, encoding="utf-8")
    snapshot = checkpoints.Snapshot(3, theta, {}, personal)
    identity = experiment_hash(source.experiment)
    checkpoints.write(tmp_path / "run" / "checkpoints", snapshot, identity)
    return tmp_path / "run"


@pytest.mark.parametrize(("site", "shift"), [("", 0.0), ("bolt", 1.0), ("cap", 2.0)])
def test_a_factory_goes_on_from_its_own_part(run: Path, site: str, shift: float) -> None:
    found = from_run(run, site=site)
    assert ("of " + site in found.name) == bool(site)
    method = build(found.experiment).method
    moved = found.params(method)["prior.log_scale"] - method.initial(7)["prior.log_scale"]
    assert torch.allclose(moved, torch.full_like(moved, shift))


def test_a_product_of_a_factory_scores_otherwise(run: Path, tmp_path: Path) -> None:
    fitted = [Detector.fit(goods(5), from_run(run, site=site)) for site in ("", "bolt")]
    scores = [detector.score([defect(0)])[0].score for detector in fitted]
    assert scores[0] != scores[1]
    fitted[1].save(tmp_path / "bolt.bayfed")
    assert Detector.load(tmp_path / "bolt.bayfed").score([defect(0)])[0].score == scores[1]


def test_a_factory_without_a_part_is_named(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"'gear' has no parameters of its own .*bolt, nut, cap"):
        from_run(run, site="gear")


def test_a_run_without_checkpoints_is_named(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(CheckpointError, match="no checkpoint"):
        from_run(run)
