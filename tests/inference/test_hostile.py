"""Files that are no exports, or that want more than to be scored."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayfed.errors import ConfigError, ProductError
from bayfed.inference import Exported
from bayfed.inference import exported as runner
from bayfed.inference import hostile
from bayfed.inference.card import KEY, SCHEMA
from bayfed.inference.hostile import metadata_of

onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
pytest.importorskip("onnxruntime", reason="the extra inference is not installed")

CARD = {
    "schema_version": SCHEMA,
    "name": "part",
    "outputs": ["score", "log_odds", "epistemic", "decision"],
    "part": {"roi": None, "tiles": 1},
    "shape": [32, 32],
    "threshold": {"kind": "model", "fpr": 0.05, "value": 0.5, "promise": "5 %"},
    "scale": {"low": 0.0, "high": 1.0, "colours": "000000ffffff"},
    "dark": 0.0,
    "origin": {
        "source": "backbone", "fitted": "", "updated": "", "images": 5, "backbone": "none",
        "weights": "", "version": "0",
    },
}  # fmt: skip


def model(card=CARD, domain="", external=False):
    """A graph that scores every picture by the mean of its bytes."""
    helper, kinds = onnx.helper, onnx.TensorProto
    half = onnx.numpy_helper.from_array(np.array(0.5, np.float32), "half")
    if external:
        onnx.external_data_helper.set_external_data(half, "../../etc/passwd")
        half.data_location = kinds.EXTERNAL
        half.ClearField("raw_data")
    nodes = [
        helper.make_node("Cast", ["image"], ["bytes"], to=kinds.FLOAT),
        helper.make_node("ReduceMean", ["bytes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "full"], ["score"]),
        helper.make_node("Identity", ["score"], ["log_odds"], domain=domain),
        helper.make_node("Identity", ["half"], ["epistemic"]),
        helper.make_node("Greater", ["score", "half"], ["above"]),
        helper.make_node("Cast", ["above"], ["decision"], to=kinds.INT64),
    ]
    outputs = [helper.make_tensor_value_info(n, kinds.FLOAT, []) for n in CARD["outputs"][:3]]
    outputs.append(helper.make_tensor_value_info("decision", kinds.INT64, []))
    picture = helper.make_tensor_value_info("image", kinds.UINT8, ["height", "width", 3])
    full = onnx.numpy_helper.from_array(np.array(255, np.float32), "full")
    graph = helper.make_graph(nodes, "toy", [picture], outputs, [full, half])
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    if card is not None:
        helper.set_model_props(made, {KEY: card if isinstance(card, str) else json.dumps(card)})
    return made.SerializeToString()


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
    try:
        metadata_of(bytes(data), "part.onnx")
    except ProductError as error:
        assert "part.onnx" in str(error)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    try:
        metadata_of(data, "part.onnx")
    except ProductError as error:
        assert "part.onnx" in str(error)


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
