from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bayfed.config import Data, Synthetic
from bayfed.data import SiteImage, load_sites
from bayfed.data.synthetic import write_sites
from experiments.benchmarks import unlike
from experiments.benchmarks.plants import CHANGES, LEAST, Smaller, write
from tests import toys

TINY = Path(__file__).parent / "tiny.yaml"
SITES = load_sites(Data(synthetic=Synthetic(products=3, size=32, train_good=30, per_defect=2)), 0)
WHERE = Data(source="folders", root=Path(), layout="mvtec")


def test_a_smaller_image_has_the_means_of_its_pixels() -> None:
    whole = SiteImage("toy", "a", "cut", toys.Drawn(3, side=30))
    found = Smaller(whole, 4)
    assert found.size() == found.pixels().shape[:2] == (8, 8)
    mean = whole.pixels()[:4, 4:8].reshape(16, 3).mean(axis=0)
    assert np.abs(found.pixels()[0, 1] - mean).max() <= 0.5
    mask = found.mask()  # rows 7 to 14 of 30 are defective
    assert mask is not None
    assert mask[:, 2].tolist() == [False, False, True, True, False, False, False, False]


@pytest.mark.parametrize("kind", CHANGES)
def test_only_the_unlike_plants_change(kind: str, tmp_path: Path) -> None:
    names = [site.name for site in SITES]
    write(SITES, tmp_path / "new", CHANGES[kind], names[:1])
    (changed, *others) = load_sites(WHERE.model_copy(update={"root": tmp_path / "new"}), 0)
    for before, after in zip(SITES[1:], others, strict=True):
        assert [i.name for i in after.images] == [i.name for i in before.images]
        pairs = zip(after.images, before.images, strict=True)
        assert all(np.array_equal(a.pixels(), b.pixels()) for a, b in pairs)
    if kind == "a quarter of the images":
        assert len(changed.train_good) == LEAST
        assert len(changed.test_good) == len(SITES[0].test_good)
    else:
        pairs = zip(changed.images, SITES[0].images, strict=True)
        assert not any(np.array_equal(a.pixels(), b.pixels()) for a, b in pairs)


def test_what_is_written_stays(tmp_path: Path) -> None:
    write(SITES, tmp_path / "new", lambda site: site, [])
    kept = sorted(path.name for path in tmp_path.iterdir())
    write([], tmp_path / "new", lambda site: site, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == kept == ["new"]


def test_kinds_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_sites(SITES, tmp_path / "sites")
    settings = [
        "data.source=folders", "data.layout=mvtec", f"backbone.name={toys.TIMM}",
        "backbone.trainable=head", "backbone.stages=[1, 2]", "federation.rounds=1",
        "store.dtype=float32",
    ]  # fmt: skip
    unlike.main(
        tmp_path / "sites", toys.weights_file(tmp_path / "w.safetensors"), tmp_path / "out",
        str(TINY), "bfloat16", "0", alone=True, settings=settings,
    )  # fmt: skip
    said = capsys.readouterr().out
    apart = float(said.split("features differ by ")[1].split()[0])
    assert 1e-4 < apart < 0.2  # bfloat16 has eight bits
    assert said.count("all alike") == 4  # two tables, and a heading in each
    results = sorted(path.parent for path in (tmp_path / "out").rglob("results.csv"))
    assert len(results) == 2 * (1 + 2)
