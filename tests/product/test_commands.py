"""The commands, as a user calls them."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bayfed.cli.main import build
from bayfed.errors import NumericalError, ProductError
from bayfed.evaluation.colours import ColourScale
from bayfed.inference.rows import Results
from bayfed.inference.streaming import stream
from bayfed.product import Detector, file
from bayfed.product.explain import explain
from tests.product.conftest import defect, good, goods, settings


def save(folder, pictures):
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def product(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("commands") / "disc.bayfed"
    Detector.fit(goods(6), source, keep_supports=True, name="disc").save(path)
    return path


def call(*words, code=0):
    done = CliRunner().invoke(build(), [str(word) for word in words])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def test_scoring_a_folder_writes_a_row_an_image(product, tmp_path):
    folder = save(tmp_path / "line", [good(50), defect(0)])
    (folder / "text.png").write_text("no image")
    out = tmp_path / "out"
    text = call("score", product, folder, "--out", out, code=1)
    assert "1 defect, 1 error, 1 ok" in text
    rows = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    assert [row["decision"] for row in rows] == ["ok", "defect", None]
    assert "not a PNG" in rows[2]["error"]
    region = rows[1]["regions"][0]
    assert region["x"] < 44 < region["x"] + region["width"]
    table = list(csv.DictReader((out / "scores.csv").open()))
    assert [row["score"] for row in table[:2]] == [str(row["score"]) for row in rows[:2]]
    assert len(list((out / "overlays").iterdir())) == len(list((out / "heatmaps").iterdir())) == 2


def test_a_name_that_is_no_text_is_written_with_escapes(product, weights, tmp_path):
    folder = save(tmp_path / "line", goods(2, 50))
    (folder / "00.png").rename(folder / os.fsdecode(b"caf\xe9.png"))
    out = tmp_path / "out"
    call("score", product, folder, "--out", out)
    table = list(csv.DictReader((out / "scores.csv").open(encoding="utf-8")))
    assert table[1]["path"].endswith(r"caf\udce9.png")
    fitted = Detector.fit(sorted(folder.iterdir()), settings(weights))
    fitted.save(tmp_path / "part.bayfed")
    assert file.read(tmp_path / "part.bayfed").provenance.images[1].name == table[1]["path"]


def test_without_pictures_there_are_rows_alone(product, tmp_path):
    folder = save(tmp_path / "line", goods(5, 50))
    call("score", product, folder, "--out", tmp_path / "out", "--no-pictures")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["scores.csv", "scores.jsonl"]


def test_earlier_results_are_overwritten_only_if_asked_for(product, tmp_path):
    out = tmp_path / "out"
    call("score", product, save(tmp_path / "many", goods(3, 50)), "--out", out)
    (out / "notes.txt").write_text("mine")
    (out / "overlays" / "mine.png").write_text("mine")
    one = save(tmp_path / "one", goods(1, 60))
    with pytest.raises(ProductError, match="earlier run; --overwrite"):
        Results(out, ColourScale(0, 1, None), pictures=True)
    assert len((out / "scores.jsonl").read_text().splitlines()) == 3
    call("score", product, one, "--out", out, "--overwrite")
    assert len((out / "scores.jsonl").read_text().splitlines()) == 1
    assert {p.name for p in (out / "overlays").iterdir()} == {"000000-00.png", "mine.png"}
    assert (out / "notes.txt").exists()


def test_a_full_disk_is_one_line_and_the_rows_before_it_are_kept(product, tmp_path):
    paths = sorted(save(tmp_path / "line", goods(2, 50)).iterdir())
    first, second = stream(Detector.load(product), paths)

    def fill():
        with Results(tmp_path / "out", ColourScale(0, 1, None), pictures=False) as results:
            results.add(first)
            results._table = Path("/dev/full").open("w")  # noqa: SIM115
            results.add(second)

    with pytest.raises(ProductError, match="/dev/full: No space left"):
        fill()
    assert (tmp_path / "out" / "scores.csv").read_text().count("\n") == 2


def test_a_stream_keeps_the_order_and_goes_on_after_a_bad_file(product, tmp_path):
    folder = save(tmp_path / "line", goods(9, 50))
    (folder / "03.png").write_bytes(b"")
    paths = sorted(folder.iterdir())
    rows = list(stream(Detector.load(product), paths))
    assert [row.path for row in rows] == paths
    assert [row.path.name for row in rows if row.error] == ["03.png"]
    alone = Detector.load(product).score([paths[7]])[0]
    assert rows[7].inspection.score == alone.score


def test_a_picture_without_a_score_is_a_row_and_stops_no_other(product, tmp_path, monkeypatch):
    paths, inspect = sorted(save(tmp_path / "line", goods(3, 50)).iterdir()), Detector.inspect

    def failing(self, pixels, places):
        if str(paths[1]) in places:
            raise NumericalError(f"{paths[1]}: its score is nan")
        return inspect(self, pixels, places)

    monkeypatch.setattr(Detector, "inspect", failing)
    rows = list(stream(Detector.load(product), paths))
    assert [row.path for row in rows] == paths
    assert [row.error for row in rows] == [None, f"{paths[1]}: its score is nan", None]


def test_inspecting_needs_no_weights(product):
    text = call("inspect", product)
    assert "disc" in text
    assert "6 good images" in text


def test_calibrating_and_updating_write_another_product(product, tmp_path):
    more = save(tmp_path / "more", goods(25, 100))
    bad = save(tmp_path / "bad", [defect(i) for i in range(4)])
    out = tmp_path / "calibrated.bayfed"
    text = call("calibrate", product, more, "--defects", bad, "--fpr", "0.1", "--out", out)
    assert "whatever the law" in text
    assert "4 known defects" in text
    assert len(file.read(product).calibration.normals) == 0
    assert "no drift" in call("drift", out, save(tmp_path / "new", goods(8, 300)))
    assert "drift:" in call("drift", product, save(tmp_path / "b", map(defect, range(8))), code=1)
    text = call("update", out, save(tmp_path / "seen", goods(2, 200)), "--out", out)
    assert "calibrate again" in text
    assert "calibrate again" not in call("update", product, more, "--out", out)
    assert len(file.read(out).provenance.images) == 31


@pytest.mark.parametrize(
    "words",
    [("--backbone", "x", "--from", "y"), (), ("--backbone", "mobilenetv2_100"), ("--from", "none")],
)
def test_fitting_needs_a_source(tmp_path, words):
    folder = save(tmp_path / "good", goods(3))
    done = CliRunner().invoke(build(), ["fit", str(folder), *words])
    assert type(done.exception).__name__ in ("ConfigError", "WeightsError")


def test_an_explanation_adds_up_and_shows_the_nearest_good_patch(product):
    detector, picture = Detector.load(product), defect(0)
    found = explain(detector, picture)
    total = sum(found.stages.values()) + detector.product.dark
    np.testing.assert_allclose(total, found.inspection.surprise, rtol=1e-3, atol=1e-3)
    assert list(found.stages) == ["stage 1", "stage 2"]
    np.testing.assert_allclose(found.distance + found.uncertainty, found.inspection.score)
    assert found.nearest is not None
    assert found.nearest_name in {image.name for image in detector.product.provenance.images}
    assert any("leave the law open" in words for words in found.words)


def test_without_pictures_the_explanation_says_so(source):
    found = explain(Detector.fit(goods(4), source), defect(0))
    assert found.nearest is None
    assert "--keep-supports" in found.words[-1]


def test_explaining_writes_pictures(product, tmp_path):
    save(tmp_path / "bad", [defect(0)])
    out = tmp_path / "why"
    text = call("explain", product, tmp_path / "bad" / "00.png", "--out", out)
    assert "distance alone" in text
    names = sorted(path.name for path in out.iterdir())
    assert names == ["nearest.png", "overlay.png", "stage_1.png", "stage_2.png"]


def test_an_export_needs_images_and_a_format_that_there_is(product, tmp_path):
    for words, says in (
        (("--format", "tflite"), "'tflite' is none of onnx, openvino"),
        (("--format", "openvino"), "ends in .xml"),
        (("--images", tmp_path / "nowhere"), "no such file or folder"),
    ):
        done = CliRunner().invoke(
            build(), ["export", str(product), "-o", str(tmp_path / "x.onnx"), *map(str, words)]
        )
        assert says in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_an_exported_detector_writes_the_rows_of_a_fitted_one(product, tmp_path):
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module, reason="the extra export is not installed")
    part, folder = tmp_path / "part.onnx", save(tmp_path / "line", [good(50), defect(0)])
    text = call("export", product, "--out", part)
    assert "6 images: largest relative difference of scores" in text
    (folder / "text.png").write_text("no image")
    rows = []
    for scorer in (product, part):
        out = tmp_path / f"scored by {scorer.name}"
        assert "1 defect, 1 error, 1 ok" in call("score", scorer, folder, "--out", out, code=1)
        rows.append([json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()])
        assert len(list((out / "overlays").iterdir())) == 2
    for one, other in zip(*rows, strict=True):
        assert one.keys() == other.keys()
        assert [one[key] for key in ("path", "decision", "error")] == [
            other[key] for key in ("path", "decision", "error")
        ]
        if one["error"] is None:
            assert other["score"] == pytest.approx(one["score"], rel=1e-4)
