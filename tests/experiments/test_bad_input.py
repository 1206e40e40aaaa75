"""Every mistake through the command: one line naming it, exit code 2, nothing half-written."""

from __future__ import annotations

import json
import shutil
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from bayfed.cli import main as module
from bayfed.config import Data, Synthetic
from bayfed.data import load_sites
from bayfed.data.synthetic import write_sites
from tests import toys

TINY = str(Path(__file__).with_name("tiny.yaml"))
SITE = "bolt_00"
Spoil = Callable[[Path], list[str]]
"""Damages the folder of sites, and returns settings and what the line must name."""


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("factories")
    drawn = Synthetic(products=2, size=32, train_good=8, test_good=3, per_defect=1)
    write_sites(load_sites(Data(synthetic=drawn), seed=0), root)
    return root


def first(root: Path, below: str) -> Path:
    return min((root / SITE / below).rglob("*.png"))


def truncated(root: Path) -> list[str]:
    path = first(root, "train/good")
    path.write_bytes(path.read_bytes()[:200])
    return [str(path)]


def no_image(root: Path) -> list[str]:
    path = first(root, "test/good")
    path.write_text("a letter")
    return [str(path)]


def one_pixel(root: Path) -> list[str]:
    path = first(root, "train/good")
    for other in (root / SITE / "train" / "good").iterdir():
        Image.fromarray(np.zeros((1, 1, 3), np.uint8) + len(other.name)).save(other)
        other.write_bytes(other.read_bytes() + other.name.encode())  # no two are alike
    return [str(path.parent), "1 x 1 pixels"]


def empty_site(root: Path) -> list[str]:
    shutil.rmtree(root / SITE / "train" / "good")
    (root / SITE / "train" / "good").mkdir()
    return [str(root / SITE), "no good image"]


def few_good_images(root: Path) -> list[str]:
    for path in sorted((root / SITE / "train" / "good").iterdir())[2:]:
        path.unlink()
    return [f"site {SITE}: 2 good"]


def wrong_mask(root: Path) -> list[str]:
    path = first(root, "ground_truth")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(path)
    return [str(path), "9 x 9"]


def both_good_and_bad(root: Path) -> list[str]:
    good = first(root, "test/good")
    bad = min(p for p in (root / SITE / "test").rglob("*.png") if p.parent.name != "good")
    bad.write_bytes(good.read_bytes())
    return [str(p.relative_to(root / SITE)) for p in (good, bad)]


def joined_name(root: Path) -> list[str]:
    (root / SITE).rename(root / "nut+bolt")
    return [str(root / "nut+bolt")]


def nothing_to_train_on(_: Path) -> list[str]:
    return ["data.pasted.per_site=0", "no defects to train on", "data.pasted.per_site"]


def unknown_setting(_: Path) -> list[str]:
    return ["federation.rouns=2", "federation.rouns"]


def unknown_backbone(_: Path) -> list[str]:
    return ["backbone.name=resnet0", "backbone.trainable=head", "backbone.name", "resnet0"]


def frozen(weights: Path) -> list[str]:
    settings = {"name": toys.TIMM, "trainable": "head", "weights": weights}
    return [f"backbone.{key}={value}" for key, value in settings.items()]


def weights_of_another_model(root: Path) -> list[str]:
    path = toys.weights_file(root.parent / "w.safetensors", "test_resnet")
    return [*frozen(path), str(path), "weights of another model"]


def weights_with_nan(root: Path) -> list[str]:
    path = toys.weights_file(root.parent / "w.safetensors")
    tensors = load_file(path)
    save_file(
        {k: torch.full_like(v, torch.nan) if v.ndim == 4 else v for k, v in tensors.items()}, path
    )
    return [*frozen(path), str(path), "NaN"]


def missing_weights(root: Path) -> list[str]:
    path = root.parent / "absent.safetensors"
    return [*frozen(path), str(path)]


def stranger_in_the_folder(root: Path) -> list[str]:
    (root.parent / "run").mkdir()
    (root.parent / "run" / "thesis.tex").touch()
    return ["thesis.tex"]


def no_folder(root: Path) -> list[str]:
    (root.parent / "run").touch()
    return [str(root.parent / "run")]


@pytest.mark.parametrize(
    "spoil",
    [
        truncated, no_image, one_pixel, empty_site, few_good_images, wrong_mask,
        both_good_and_bad, joined_name, nothing_to_train_on, unknown_setting, unknown_backbone,
        weights_of_another_model, weights_with_nan, missing_weights, stranger_in_the_folder,
        no_folder,
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_it_and_leaves_nothing_half_written(
    spoil: Spoil,
    sites: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, out, store = tmp_path / "sites", tmp_path / "run", tmp_path / "store"
    shutil.copytree(sites, root)
    said = spoil(root)
    settings = [
        "federation.backend=inprocess", "data.source=folders", f"data.root={root}",
        f"store.directory={store}", *(text for text in said if "=" in text),
    ]  # fmt: skip
    words = [word for setting in settings for word in ("--set", setting)]
    monkeypatch.setattr("clients.session._open", OrderedDict())
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["bayfed", "run", TINY, *words, "--out", str(out)])
    with pytest.raises(SystemExit) as caught:
        module.main()
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bayfed: error: ")
    assert all(text in line for text in said if "=" not in text), line
    check_what_is_left(out, store, line)


def check_what_is_left(out: Path, store: Path, line: str) -> None:
    left = {path.name for path in out.iterdir()} if out.is_dir() else set()
    assert left <= {"config.yaml", "outcome.json", "server.log", "thesis.tex"}
    if "outcome.json" in left:
        outcome = json.loads((out / "outcome.json").read_text())
        assert outcome == {"status": "failed", "reason": line.removeprefix("bayfed: error: ")}
    kept = {path.suffix for path in store.rglob("*") if path.is_file()}
    assert kept in (set(), {".npy", ".txt"})
    assert not list(store.rglob(".writing-*"))
