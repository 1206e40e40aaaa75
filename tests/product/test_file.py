"""A product file as hostile input."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bayfed.errors import BayfedError, NumericalError, ProductError
from bayfed.evaluation.checkpoint import digest
from bayfed.product import Detector, file
from tests import toys
from tests.product.conftest import goods


@pytest.fixture(scope="module")
def path(source, tmp_path_factory):
    found = tmp_path_factory.mktemp("product") / "part.bayfed"
    Detector.fit(goods(4), source).save(found)
    return found


def changed(path, out, tensors=None, **header):
    """The file with other fields in its header or other tensors, and a digest that fits."""
    with safe_open(path, "pt") as old:
        tree = json.loads(old.metadata()[file.HEADER]) | header
        kept = {name: old.get_tensor(name) for name in old.keys()} | (tensors or {})  # noqa: SIM118
    if "digest" not in header:
        tree["digest"] = digest(kept)
    save_file(kept, out, {file.HEADER: json.dumps(tree)})
    return out


def refuse(path, words, load=False):
    with pytest.raises(BayfedError, match=words) as caught:
        Detector.load(path) if load else file.read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value) or load


def test_the_header_can_be_read_by_a_person(path):
    with safe_open(path, "pt") as opened:
        header = json.loads(opened.metadata()[file.HEADER])
    assert header["schema_version"] == 1
    assert header["settings"]["backbone"]["name"] == toys.TIMM
    assert len(header["provenance"]["images"]) == 4
    assert "by a model" in header["threshold"]["promise"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_a_file_that_is_cut_off(path, tmp_path, share):
    data, cut = path.read_bytes(), tmp_path / "cut.bayfed"
    cut.write_bytes(data[: int(share * len(data))])
    refuse(cut, "cut off")


def test_a_file_that_is_none(tmp_path):
    refuse(tmp_path / "missing.bayfed", "no such file")
    (tmp_path / "text.bayfed").write_text("a text, and a long one\n" * 50)
    refuse(tmp_path / "text.bayfed", "not a product file")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.bayfed")
    refuse(tmp_path / "other.bayfed", "not a product file")


def test_a_file_that_is_too_large(path, monkeypatch):
    monkeypatch.setattr(file, "MAX_BYTES", 10)
    refuse(path, "larger than")


def test_a_newer_schema_is_named(path, tmp_path):
    refuse(changed(path, tmp_path / "new.bayfed", schema_version=2), "schema 2 of a newer bayfed")


@pytest.mark.parametrize(
    "header",
    [
        {"shape": [64]}, {"shape": [16384, 16384]},
        {"dark": None}, {"unknown": 1}, {"dark": float("nan")},
        {"threshold": {"kind": "magic", "fpr": 0.1, "value": 1.0, "promise": ""}},
        {"threshold": {"kind": "model", "fpr": 2.0, "value": 1.0, "promise": ""}},
    ],
)  # fmt: skip
def test_a_header_that_is_wrong(path, tmp_path, header):
    refuse(changed(path, tmp_path / "wrong.bayfed", **header), "damaged header")


@pytest.mark.parametrize(
    "header",
    [
        {"settings": {"backbone": {"name": 3}}},
        {"settings": {"backbone": {"grid": 10**6}}},
        {"frame": {"roi": None, "tiles": 99}},
    ],
)
def test_settings_that_are_wrong(path, tmp_path, header):
    refuse(changed(path, tmp_path / "wrong.bayfed", **header), "settings|tiles")


def test_tensors_that_were_changed(path, tmp_path):
    out = changed(path, tmp_path / "x.bayfed", {"fitted/tokens": torch.ones(())}, digest="0" * 64)
    refuse(out, "not those that were written")


def test_tensors_that_are_not_finite(path, tmp_path):
    out = changed(path, tmp_path / "nan.bayfed", {"fitted/tokens": torch.tensor(torch.nan)})
    refuse(out, "fitted/tokens is not finite")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fitted/support.mean", torch.zeros(4, 3)), ("fitted/scores", torch.zeros(())),
        ("fitted/support.scatter", torch.zeros(4, 7)), ("params/head.weight", torch.eye(3)),
        ("params/prior.mean", torch.zeros(0)),
        ("params/score.inflation", torch.zeros((), dtype=torch.int64)),
    ],
)  # fmt: skip
def test_tensors_of_a_wrong_shape(path, tmp_path, name, value):
    refuse(changed(path, tmp_path / "shape.bayfed", {name: value}), "fit|settings", load=True)


def test_a_score_that_is_no_number_is_no_decision(path, tmp_path):
    huge = {"params/score.inflation": torch.tensor(3e38)}
    detector = Detector.load(changed(path, tmp_path / "huge.bayfed", huge))
    with pytest.raises(NumericalError, match=r"image 0: its score is -?(inf|nan)"):
        detector.score(goods(1))


def test_another_backbone_is_refused(path, tmp_path, weights):
    other = toys.weights_file(tmp_path / "other.safetensors")
    with pytest.raises(BayfedError, match="sha256"):
        Detector.load(path, other)
    assert Detector.load(path, weights).name == "product"


def test_pictures_that_are_none(path, tmp_path):
    junk = {"supports/0000": torch.zeros(9, dtype=torch.uint8)}
    refuse(changed(path, tmp_path / "junk.bayfed", junk), "no picture")


def test_a_disk_that_cannot_be_written(path, tmp_path):
    with pytest.raises(ProductError, match="No such file or directory"):
        file.write(tmp_path / "missing" / "part.bayfed", file.read(path))
    (tmp_path / "folder").mkdir()
    with pytest.raises(ProductError, match="directory"):
        file.write(tmp_path / "folder", file.read(path))
    assert list(tmp_path.glob(".*partial")) == []
