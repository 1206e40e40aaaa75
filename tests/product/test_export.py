"""Files that score without torch, by the runtimes themselves."""

import shutil

import numpy as np
import pytest

from bayfed.errors import ConfigError, DataError, ProductError
from bayfed.inference import Exported
from bayfed.product import Box, Detector, Frame
from bayfed.product import export as exporting
from bayfed.product.export import Format, chosen, export
from bayfed.product.parity import FEWEST, Parity
from tests.product.conftest import defect, good, goods

onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
pytest.importorskip("onnxscript", reason="the extra export is not installed")
pytest.importorskip("onnxruntime", reason="the extra inference is not installed")

PICTURES = [*goods(3, 50), defect(0), np.ascontiguousarray(good(60, 97)[:, 7:])]
pytestmark = pytest.mark.xdist_group("export")


@pytest.fixture(scope="module")
def fitted(source):
    return Detector.fit(goods(6), source)


@pytest.fixture(scope="module")
def file(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "part.onnx"
    assert export(fitted, path, PICTURES).holds
    return path


def agree(detector, exported, pictures):
    for own, other in zip(detector.score(pictures), exported.score(pictures), strict=True):
        assert other.score == pytest.approx(own.score, rel=1e-4, abs=1e-4)
        assert other.p_value == pytest.approx(own.p_value, rel=5e-3)  # the law of six is steep
        assert other.epistemic == pytest.approx(own.epistemic, rel=1e-3)
        assert other.decision == own.decision
        np.testing.assert_allclose(other.surprise, own.surprise, atol=2e-3)
        assert len(other.regions) == len(own.regions)


def test_a_file_scores_pictures_of_any_size_as_its_detector_does(fitted, file):
    others = [good(70, 200), np.ascontiguousarray(defect(3)[:, ::-1]), good(71, 33)]
    agree(fitted, Exported.load(file), PICTURES + others)


def test_a_file_knows_what_a_row_needs(fitted, file):
    exported = Exported.load(file)
    assert (exported.name, exported.threshold) == (fitted.name, fitted.threshold)
    assert (exported.fpr, exported.promise) == (fitted.fpr, fitted.promise)
    assert (exported.scale.low, exported.scale.high) == (fitted.scale.low, fitted.scale.high)
    assert exported.card.origin.images == 6


def test_nothing_of_this_machine_is_in_a_file(file):
    text = file.read_bytes()
    assert b"site-packages" not in text
    assert str(file.parents[3]).encode() not in text
    assert b".py" not in text


def test_the_optimiser_of_the_runtime_changes_nothing_that_counts(fitted, file):
    import onnxruntime

    own = [one.score for one in fitted.score(PICTURES)]
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        session = onnxruntime.InferenceSession(str(file), options)
        scores = [float(session.run(["score"], {"image": p})[0]) for p in PICTURES]
        np.testing.assert_allclose(scores, own, rtol=1e-4, atol=1e-4)


def test_a_region_and_tiles_are_in_the_file(source, tmp_path):
    frame = Frame(Box(4, 6, 52, 50), 2)
    detector = Detector.fit(goods(5), source, frame=frame, keep_supports=True)
    export(detector, tmp_path / "part.onnx")
    exported = Exported.load(tmp_path / "part.onnx")
    agree(detector, exported, [good(50), defect(0), good(51, 99)])
    with pytest.raises(DataError, match="do not hold the region"):
        exported.score([good(52, 40)])


def test_openvino_scores_the_same(fitted, file, tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    path = tmp_path / "part.xml"
    monkeypatch.setattr(exporting, "graph_of", lambda _: file.read_bytes())
    assert export(fitted, path, PICTURES).holds
    assert {one.name for one in tmp_path.iterdir()} == {"part.xml", "part.bin"}
    agree(fitted, Exported.load(path), PICTURES)


def test_an_export_that_scores_otherwise_is_refused_and_what_was_there_is_kept(
    fitted, file, tmp_path, monkeypatch
):
    path = tmp_path / "part.onnx"
    shutil.copy(file, path)
    before = path.read_bytes()
    wrong = Parity(5, 2e-4, 1e-3, 0.0, 0.0, 0, 0)
    monkeypatch.setattr(exporting, "compare", lambda *_: wrong)
    monkeypatch.setattr(exporting, "graph_of", lambda _: before)
    with pytest.raises(ProductError, match=r"not written.*2\.0e-04"):
        export(fitted, path, PICTURES)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [0, FEWEST - 1])
def test_too_few_images_are_refused(fitted, tmp_path, number):
    with pytest.raises(ProductError, match=f"at least {FEWEST}"):
        export(fitted, tmp_path / "part.onnx", PICTURES[:number])


def test_a_folder_that_is_not_there_is_named(fitted, tmp_path):
    with pytest.raises(ProductError, match="nowhere"):
        export(fitted, tmp_path / "nowhere" / "part.onnx", PICTURES)


@pytest.mark.parametrize(("name", "wanted"), [("x.pt", None), ("x.onnx", Format.OPENVINO)])
def test_an_ending_that_is_not_the_formats_is_refused(tmp_path, name, wanted):
    with pytest.raises(ConfigError, match="ends in"):
        chosen(tmp_path / name, wanted)
