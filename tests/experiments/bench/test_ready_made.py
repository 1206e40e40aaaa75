"""The experiments of published data sets, on small files in their published layouts."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from bayfed.config import load_bench
from bayfed.config.methods import Method
from bayfed.errors import ConfigError
from bayfed.evaluation.table import ResultRow, read_rows
from bayfed.seeds import stream
from experiments.bench import report as module
from experiments.bench.arms import choose_arms
from experiments.bench.request import Request, understand
from experiments.bench.run import run
from experiments.resolve import find
from tests import toys

SIDE, GOOD, BAD = 32, 5, 2


def put(path: Path, mask: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if mask:
        pixels = np.zeros((SIDE, SIDE), np.uint8)
        pixels[8:16, 8:16] = 255
    else:
        key = "/".join(path.parts[-4:])
        pixels = stream(0, "layout", key).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def mvtec(root: Path, sites: tuple[str, ...]) -> None:
    for site in sites:
        for number in range(GOOD):
            put(root / site / f"train/good/{number:03}.png")
            put(root / site / f"test/good/{number:03}.png")
        for number in range(BAD):
            put(root / site / f"test/broken/{number:03}.png")
            put(root / site / f"ground_truth/broken/{number:03}_mask.png", mask=True)


def visa(root: Path, sites: tuple[str, ...]) -> None:
    lines = ["object,split,label,image,mask"]
    for site in sites:
        for number in range(2 * GOOD):
            image = put(root / site / f"Data/Images/Normal/{number:04}.JPG").relative_to(root)
            lines.append(f"{site},{'train' if number < GOOD else 'test'},normal,{image},")
        for number in range(BAD):
            image = put(root / site / f"Data/Images/Anomaly/{number:03}.JPG").relative_to(root)
            mask = put(root / site / f"Data/Masks/Anomaly/{number:03}.png", mask=True)
            lines.append(f"{site},test,anomaly,{image},{mask.relative_to(root)}")
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join(lines))


def ksdd2(root: Path, sites: tuple[str, ...]) -> None:
    assert sites == ("ksdd2",)
    for split, start in (("train", 10000), ("test", 20000)):
        for number in range(start, start + GOOD + BAD):
            put(root / f"{split}/{number}.png")
            mask = put(root / f"{split}/{number}_GT.png", mask=True)
            if number < start + GOOD:
                Image.new("L", (SIDE, SIDE)).save(mask)


WRITERS: dict[str, Callable[[Path, tuple[str, ...]], None]] = {
    "mvtec_ad": mvtec, "visa": visa, "ksdd2": ksdd2, "paper_table": mvtec,
}  # fmt: skip
NUMBERS = {"mvtec_ad": 15, "visa": 12, "ksdd2": 1, "paper_table": 15}


@pytest.fixture
def benched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[ResultRow]]:
    monkeypatch.setattr(module, "write_bench_report", lambda folder, _: folder)

    def bench(name: str) -> list[ResultRow]:
        experiment, *_ = load_bench(find(name, tmp_path))
        WRITERS[name](tmp_path / "data", experiment.data.sites)
        small = (
            "device=cpu", "backbone.stages=[1, 2]", "backbone.image_size=32",
            "evaluation.draws=1", "store.dtype=float32", f"store.directory={tmp_path / 'store'}",
        )  # fmt: skip
        request = Request(
            name, ("pca",), tmp_path / "data", backbone=toys.TIMM,
            weights=toys.weights_file(tmp_path / "weights.safetensors"), protocols=("standard",),
            arms=("none",), shots=("2",), workers=1, settings=small, out=tmp_path / "out",
        )  # fmt: skip
        run(request, Console(file=io.StringIO()))
        return read_rows(tmp_path / "out" / "results.csv")

    return bench


@pytest.mark.parametrize("name", WRITERS)
def test_a_method_is_benched_on_every_site(
    benched: Callable[[str], list[ResultRow]], name: str
) -> None:
    rows = benched(name)
    assert len({row.site for row in rows}) == len(rows) == NUMBERS[name]
    assert all(row.image_auroc is not None and row.aupro is not None for row in rows)


def test_visa_leaves_out_products_with_their_likes() -> None:
    experiment, *_ = load_bench(find("visa", Path.cwd()))
    families = {site for group in experiment.data.families.values() for site in group}
    assert families == {
        "fryum",
        "pipe_fryum",
        "macaroni1",
        "macaroni2",
        *(f"pcb{i}" for i in "1234"),
    }


def test_families_are_those_of_the_sites_that_are_asked_for(tmp_path: Path) -> None:
    request = Request("visa", ("pca",), tmp_path, sites=("candle", "fryum", "pipe_fryum", "pcb2"))
    families = understand(request).systems["pca"].data.families
    assert {name: members for name, members in families.items() if members} == {
        "fryum": ("fryum", "pipe_fryum"),
        "pcb": ("pcb2",),
    }


def test_the_bench_of_everything_has_every_method() -> None:
    systems = understand(Request("bench")).systems
    union, *_ = get_args(Method)
    every = {kind.model_fields["name"].default for kind in get_args(union)}
    assert {one.method.name for one in systems.values()} == every
    assert understand(Request("bench")).bench.pairs


@pytest.mark.parametrize("name", ["new_product", "new_defect"])
def test_what_is_trained_is_paired_with_patchcore_on_the_same_inputs(name: str) -> None:
    asked = understand(Request(name, arms=("federated",)))
    protocols = asked.bench.protocols
    arms = choose_arms(asked.systems, asked.bench, protocols, strict=True)
    assert arms == {"baypranometa": ("federated",), "patchcore": ("none",)}
    assert asked.systems["patchcore"].backbone == asked.systems["baypranometa"].backbone


def test_the_published_table_has_its_systems_and_arms(tmp_path: Path) -> None:
    asked = understand(Request("paper_table", data=tmp_path))
    systems = asked.systems
    paper, plain = systems["baypranometa"], systems["baypranometa-no-contrastive"]
    assert paper.method.name == plain.method.name == "baypranometa"
    assert (paper.method.loss.contrastive, plain.method.loss.contrastive) == (0.1, 0)
    assert plain.method == paper.method.model_copy(update={"loss": plain.method.loss})
    assert {one.method.grain for one in systems.values() if one.method.trains} == {"image"}
    assert {one.evaluation.shots for one in systems.values()} == {5}
    memory = systems["patchcore"]
    assert (memory.method.name, memory.method.coreset) == ("patchcore", 0.1)
    assert memory.backbone.stages == (2, 3)
    assert memory.backbone.name == paper.backbone.name == "resnet18"
    assert set(asked.bench.arms) == {"none", "centralised", "federated"}
    assert understand(Request("paper_table", ("patchcore",), tmp_path)).bench.pairs == ()


def test_a_bench_of_skewed_sites_is_refused() -> None:
    request = Request("untrained", settings=("data.skew.camera=1",))
    with pytest.raises(ConfigError, match=r"^data\.skew: a bench measures sites as they are"):
        understand(request)
