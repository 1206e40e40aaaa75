from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bayfed.data import SiteImage
from bayfed.episodes import Pools
from experiments.attacks.hostile import Hostile
from experiments.attacks.poison import SIDE, backdoored, flipped, with_stickers
from experiments.inprocess import InProcessGrid
from server import history
from server.job import Job
from tests import fakes


class Grey:
    def pixels(self) -> np.ndarray:
        return np.full((64, 96, 3), 128, np.uint8)

    def mask(self) -> None:
        return None

    def size(self) -> tuple[int, int]:
        return 64, 96

    def digest(self) -> str:
        return "grey"


def pools() -> Pools:
    def image(name: str, defect: str | None = None, base: str | None = None) -> SiteImage:
        return SiteImage("s", name, defect, Grey(), base)

    return Pools(
        "s", "s", (image("g"),), (image("p", "hole", "g"),), (image("t"),), (image("d", "x"),)
    )


def test_a_sticker_changes_a_corner_and_the_digest_only() -> None:
    (image,) = with_stickers(pools()).test_anomalies
    changed = (image.pixels() != 128).any(axis=2)
    side = 64 // SIDE
    assert changed[:side, :side].all()
    assert changed.sum() == side * side
    assert (image.source.digest() == "grey", image.size(), image.defect) == (False, (64, 96), "x")


def test_a_poisoned_factory_lies_about_its_training_only() -> None:
    honest = pools()
    flip, back = flipped(honest), backdoored(honest)
    assert [i.defect for i in flip.train_good] == [None]
    assert [i.defect for i in flip.train_anomalies] == ["flipped"]
    assert [i.name for i in back.train_good] == ["g", "triggered/p"]
    assert flip.testing == back.testing == honest.testing


@pytest.mark.parametrize(
    ("attack", "defence", "least", "most"),
    [
        ("scaled", {}, 20, np.inf),
        ("scaled", {"rule": "median"}, 0, 2),
        ("sign flip", {"rule": "trimmed_mean"}, 0, 2),
        ("NaN", {}, 0, 2),
    ],
)
def test_an_attack_meets_its_defence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    attack: str,
    defence: dict[str, object],
    least: float,
    most: float,
) -> None:
    fakes.install(monkeypatch)
    server = {"lr": 0.05, "optimizer": "sgd"}
    settings = {"rounds": 30, "quorum": 0.5, "server": server, "defence": defence}
    settings["largest_loss"] = 1e36  # how far an attack gets is what is measured
    job = Job(fakes.experiment(**settings), tmp_path)
    fakes.play(job, InProcessGrid(Hostile(attack, frozenset({2})), fakes.SITES))
    lines = history.read(job.history)
    honest = max(c["gap"] for c in lines[-1]["clients"] if c["name"] != "site2")
    assert least <= honest / np.sqrt(3) <= most
    assert (lines[5]["refused"] != {}) == (attack == "NaN")
