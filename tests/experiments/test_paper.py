"""The preset of the paper under test: what it sets, and that it runs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from bayfed.config import Experiment, experiment_hash
from bayfed.evaluation import checkpoint
from bayfed.evaluation.summary import CONTROL, TRAINED
from bayfed.evaluation.table import read_rows
from bayfed.methods import BayPrAnoMeta
from bayfed.seeds import torch_stream
from experiments.resolve import resolve
from experiments.run import run
from server.job import Job
from tests import toys

SMALL = [
    "device=cpu",
    "data.synthetic.products=2",
    "data.synthetic.size=32",
    "data.synthetic.train_good=20",
    "data.synthetic.test_good=3",
    "data.synthetic.per_defect=2",
    "data.synthetic.kinds=[hole, stain]",
    "backbone.image_size=32",
    "federation.backend=inprocess",
    "federation.rounds=1",
    "federation.server.local_steps=1",
    "evaluation.draws=1",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("paper")
    job = resolve("paper", [*SMALL, f"store.directory={folder}/store"], folder / "run")
    run(job, Console(file=io.StringIO()))
    return job


def published() -> Experiment:
    return resolve("paper", out=Path("paper")).experiment


def test_the_preset_is_the_published_table() -> None:
    experiment = published()
    method = experiment.method
    assert method.name == "baypranometa"
    prior, inner, episode = method.prior, method.inner, experiment.episode
    assert (method.grain, method.embedding, method.relu, method.normalise) == (
        "image", 128, True, True,
    )  # fmt: skip
    assert (prior.init, prior.kappa, prior.scale) == ("fixed", 0.01, 1.0)
    assert prior.extra_dof == (128 + 2) - (128 - 1)
    assert (inner.steps, inner.lr, inner.objective) == (1, 5e-4, "predictive")
    assert (method.loss.contrastive, method.loss.temperature) == (0.1, 0.07)
    assert (episode.shots, episode.normals, episode.anomalies) == (5, 12, 4)
    federation = experiment.federation
    assert (federation.rounds, federation.fraction) == (50, 1.0)
    assert federation.episodes * federation.server.local_steps == 10
    assert (federation.server.optimizer, federation.server.lr) == ("adam", 1e-4)
    assert (experiment.backbone.name, experiment.backbone.image_size) == ("resnet18", 224)


def test_its_predictive_has_eight_degrees_of_freedom() -> None:
    settings = published().method
    method = BayPrAnoMeta(settings, toys.encoder(channels=512))  # type: ignore[arg-type]
    support = torch.randn((5, 1, 512), generator=torch_stream(0, "support"))
    adapted = method.adapt(method.initial(0), support)
    assert adapted.fit.law.dof.item() == pytest.approx(8)
    assert method.variant == "fixed-broad+normalised"


def test_one_round_moves_the_encoder_and_keeps_what_is_published_as_constant(finished: Job) -> None:
    identity = experiment_hash(finished.experiment)
    before, after = (
        checkpoint.read(checkpoint.path_of(finished.out / "checkpoints", number), identity).theta
        for number in (0, 1)
    )
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"tail.model.conv1.weight", "tail.model.layer4.1.bn2.weight", "head.weight"} <= moved
    still = {name for name in before if name.startswith(("prior.", "inner."))}
    assert len(still) == 5
    assert not still & moved


def test_its_rows_are_those_of_the_held_out_defects(finished: Job) -> None:
    rows = read_rows(finished.results)
    assert {(row.arm, row.site) for row in rows} == {
        (arm, site) for arm in (CONTROL, TRAINED) for site in ("bolt_00", "fabric_00")
    }
    for row in rows:
        assert (row.method, row.variant, row.grain) == (
            "baypranometa", "fixed-broad+normalised", "image",
        )  # fmt: skip
        assert (row.protocol, row.backbone) == ("new-defect", "resnet18")
        assert row.defect in ("hole", "stain")
        assert row.image_auroc is not None
    assert finished.report.stat().st_size > 1000
