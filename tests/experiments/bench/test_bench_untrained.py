from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bayfed.config import PatchCore
from bayfed.data.turned import UPRIGHT
from bayfed.errors import ConfigError
from bayfed.evaluation import system as module
from bayfed.evaluation.table import ResultRow, read_rows
from bayfed.methods import Scores, build_method
from tests.experiments.bench.conftest import Benching


class NearestColour:
    """Scores an image by the distance of its mean colour to the nearest support."""

    name, variant, localises, poses = "patchcore", None, False, UPRIGHT

    def initial(self, seed: int, statistics: Any = None) -> dict[str, Tensor]:
        del seed, statistics
        return {}

    def adapt(self, params: dict[str, Tensor], support: Tensor) -> Tensor:
        assert params == {}
        return _colours(support)

    def score(self, adapted: Tensor, query: Tensor) -> Scores:
        distance = torch.cdist(_colours(query), adapted).amin(1)
        return Scores(distance, None, distance, None)

    def support_scores(self, adapted: Tensor) -> Tensor:
        distance = torch.cdist(adapted, adapted)
        return (distance + 1e9 * torch.eye(len(adapted))).amin(1)

    def size(self, adapted: Tensor) -> int:
        return 4 * adapted.numel()


def _colours(stored: Tensor) -> Tensor:
    return stored.float().flatten(2).mean(2)


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(settings: Any, encoder: Any) -> Any:
        found = isinstance(settings, PatchCore)
        return NearestColour() if found else build_method(settings, encoder)

    monkeypatch.setattr(module, "build_method", build)


def rows(folder: Path) -> list[ResultRow]:
    return read_rows(folder / "results.csv")


def test_what_is_never_trained_is_paired_with_what_is(benching: Benching) -> None:
    arms = ("none", "federated")
    methods = ("baypranometa", "patchcore")
    kinds = ("data.synthetic.held_out_kinds=[scratch]",)
    options = {"protocols": ("new-product",), "settings": kinds, "report": True}
    out = benching(methods=methods, arms=arms, **options)
    found = {(row.method, row.arm) for row in rows(out)}
    assert found == {("baypranometa", "none"), ("baypranometa", "federated"),
                     ("patchcore", "none")}  # fmt: skip
    # Without a law of its own a method is calibrated by the other sites' normals, map or not.
    assert all(row.cover90 is not None for row in rows(out))
    assert {row.aupro is None for row in rows(out) if row.method == "patchcore"} == {True}
    text = (out / "results.md").read_text()
    assert "minus patchcore" in text
    assert not list(out.glob("trainings/patchcore*"))


def test_asking_it_to_train_is_one_line(benching: Benching, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="patchcore cannot have the arm 'federated'"):
        benching(methods=("patchcore",), arms=("federated",))
    with pytest.raises(ConfigError, match="patchcore cannot have the arm 'local'"):
        benching(section={"systems": {"patchcore": {"arms": ["none", "local"]}}})
    assert not (tmp_path / "out").exists()
