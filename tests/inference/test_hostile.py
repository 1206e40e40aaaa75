"""Files that are no exports, or that want more than to be scored."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayfed.errors import ConfigError, ProductError
from bayfed.inference import Exported, hostile
from bayfed.inference import exported as runner
from bayfed.inference.card import SCHEMA
from bayfed.inference.hostile import metadata_of
from tests.inference.small import CARD, model

pytest.importorskip("onnx", reason="the extra export is not installed")
pytest.importorskip("onnxruntime", reason="the extra inference is not installed")


def load(tmp_path, data):
    path = tmp_path / "part.onnx"
    path.write_bytes(data)
    return Exported.load(path)


def changed(**values):
    return CARD | values


def test_a_graph_with_a_card_is_scored(tmp_path):
    exported = load(tmp_path, model())
    white, black = (np.full((5, 7, 3), value, np.uint8) for value in (255, 0))
    one, other = exported.score([white, black])
    assert (one.score, one.decision.value) == (1.0, "defect")
    assert (other.score, other.decision.value) == (0.0, "ok")
    assert one.p_value is one.surprise is None


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not an ONNX file"),
        (b"a text file, renamed", "not an ONNX file"),
        (model(None), "not written by bayfed export"),
        (model("{"), "damaged metadata"),
        (model("[]"), "damaged metadata"),
        (model("[" * 100_000), "damaged metadata"),
        (model(changed(schema_version=SCHEMA + 1)), "newer bayfed"),
        (model(changed(name=5)), r"damaged metadata \(name"),
        (model(changed(outputs=["score"])), "damaged metadata"),
        (model(changed(part={"roi": [-1, 0, 5, 5], "tiles": 1})), "damaged metadata"),
        (model(changed(scale={"low": 1.0, "high": 0.0, "colours": "00" * 6})), "damaged metadata"),
        (model(domain="com.example"), "no part of ONNX"),
        (model(external=True), "other files"),
        (model()[:-700], "cut off|ONNX Runtime cannot load|not written by"),
    ],
)
def test_what_is_no_export_is_refused_in_one_line(tmp_path, data, says):
    with pytest.raises(ProductError, match=says) as error:
        load(tmp_path, data)
    assert "\n" not in str(error.value)


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_damaged_file_is_read_or_refused_but_never_a_crash(at, flip):
    data = bytearray(model())
    data[at % len(data)] ^= flip
    with suppress(ProductError):
        metadata_of(bytes(data), "part.onnx")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    with suppress(ProductError):
        metadata_of(data, "part.onnx")


def test_a_file_above_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "MAX_BYTES", 100)
    with pytest.raises(ProductError, match="larger than"):
        load(tmp_path, model())


def test_graphs_in_graphs_have_an_end():
    data = b""
    for _ in range(hostile.DEEPEST):
        for number in (6, 5, 1):  # of an attribute, a node, a graph
            length = len(data)
            size = bytes([length & 127 | 128, length >> 7]) if length > 127 else bytes([length])
            data = bytes([number << 3 | 2]) + size + data
    length = len(data)
    whole = bytes([7 << 3 | 2, length & 127 | 128, length >> 7]) + data
    with pytest.raises(ProductError, match="not an ONNX file"):
        metadata_of(whole, "part.onnx")


def test_a_file_that_is_not_there_is_named(tmp_path):
    for name in ("part.onnx", "part.xml"):
        with pytest.raises(ProductError, match="part"):
            Exported.load(tmp_path / name)


def test_a_runtime_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'bayfed\[inference\]'"):
        load(tmp_path, model())


def test_a_graph_that_decides_what_there_is_not_is_refused(tmp_path):
    exported = load(tmp_path, model(changed(decisions=["ok"])))
    with pytest.raises(ProductError, match="decides 1"):
        exported.score([np.full((2, 2, 3), 255, np.uint8)])


def test_an_output_that_the_graph_lacks_is_named(tmp_path):
    exported = load(tmp_path, model(changed(outputs=[*CARD["outputs"], "heatmap"])))
    with pytest.raises(ProductError, match="no output 'heatmap'"):
        exported.score([np.zeros((2, 2, 3), np.uint8)])
