"""The smallest exported detector: a picture's score is its brightness."""

import json

import numpy as np

from bayfed.inference.card import KEY, SCHEMA

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
    import onnx

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
