"""A detector as a file for ONNX Runtime or OpenVINO, which is kept only if it scores the same."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from bayfed import __version__
from bayfed.errors import BayfedError, ConfigError, ProductError
from bayfed.evaluation.colours import palette
from bayfed.inference.card import INPUT, KEY, SCHEMA, Card, Limit, Origin, Part, Scale
from bayfed.inference.exported import ONNX, OPENVINO, Exported
from bayfed.inference.hostile import MAX_BYTES, metadata_of
from bayfed.inference.pictures import Picture
from bayfed.product.detector import Detector
from bayfed.product.parity import Parity, compare, enough
from bayfed.product.source import build
from bayfed.product.traced import SIDES, trace

OPSET = 20
"""Of ONNX: runtimes from 2024 on have it."""
WEIGHTS = ".bin"
"""Ending of the weights beside an IR."""


class Format(StrEnum):
    """What a detector is exported to."""

    ONNX = "onnx"
    OPENVINO = "openvino"


ENDINGS = {Format.ONNX: ONNX, Format.OPENVINO: OPENVINO}
_NEEDED = {
    Format.ONNX: ("onnx", "onnxscript", "onnxruntime"),
    Format.OPENVINO: ("onnx", "onnxscript", "openvino"),
}


def export(
    detector: Detector, path: Path, images: Sequence[Picture] = (), wanted: Format | None = None
) -> Parity:
    """Write a detector as a file that scores without torch, and return how well it does.

    The graph is traced from the modules that score: inspected part, tiles, resize, backbone,
    Student-t scores, p-value, decision and map. It takes decoded pictures of any size.

    Args:
        detector: With a threshold.
        path: ``.onnx``, or ``.xml`` of an IR, whose ``.bin`` goes beside it.
        images: Real ones, on which file and detector must agree; without any, the pictures of the
            support if the product keeps them.
        wanted: None = by the file's ending.

    Raises:
        ProductError: there is no threshold, the images are too few, the file does not say what the
            detector says or cannot be written. No file is left, and one that was there is kept.
        ConfigError: the ending is not the format's, or a library is missing.
        DataError: an image cannot be used.
    """
    path = Path(path)
    kind = chosen(path, wanted)
    known = list(images) or list(detector.product.supports)
    enough(known)
    _needs(kind)
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
            data = graph_of(detector)
            made = written(Path(folder) / f"product{ENDINGS[kind]}", data, kind)
            parity = compare(detector, Exported.load(made[-1]), known)
            if not parity.holds:
                raise ProductError(f"{path}: not written, the export differs: {parity.text}")
            for part in made:
                part.replace(path.with_suffix(part.suffix))
    except OSError as error:
        raise ProductError(f"{path}: {error.strerror or error}") from error
    return parity


def graph_of(detector: Detector) -> bytes:
    """Return the ONNX file of a detector, unchecked.

    Raises:
        ProductError: no threshold is set, the backbone cannot be traced, or the graph is too large.
    """
    card = card_of(detector)
    try:
        program, names = trace(_on_cpu(detector))
        return _onnx(program, names, card.model_copy(update={"outputs": names}))
    except BayfedError:
        raise
    except Exception as error:  # tracer and exporter have a zoo of them
        reason = " ".join(str(error).split())[:200]
        raise ProductError(f"export: {card.origin.backbone} cannot be traced ({reason})") from error


def _on_cpu(detector: Detector) -> Detector:
    """Return the detector where its graph is traced, whatever scores it otherwise."""
    if detector.system.encoder.device.type == "cpu":
        return detector
    experiment = detector.product.experiment.model_copy(update={"device": "cpu"})
    product = replace(detector.product, experiment=experiment)
    return Detector(product, build(experiment, product.frame.tiles))


def chosen(path: Path, wanted: Format | None) -> Format:
    """Return the format of a file, by its ending where none is named.

    Raises:
        ConfigError: the ending is none of a format, or of another one.

    >>> chosen(Path("part.xml"), None).value
    'openvino'
    """
    for kind, ending in ENDINGS.items():
        if path.suffix == ending and wanted in (None, kind):
            return kind
    if wanted is None:
        raise ConfigError(f"{path}: an export ends in {' or '.join(ENDINGS.values())}")
    raise ConfigError(f"{path}: a file of format {wanted} ends in {ENDINGS[wanted]}")


def card_of(detector: Detector) -> Card:
    """Return what a file says of a detector beside its graph, but for the graph's outputs.

    Raises:
        ProductError: no threshold is set.
    """
    product, scale = detector.product, detector.scale
    origin, backbone = product.provenance, product.experiment.backbone
    return Card(
        schema_version=SCHEMA,
        name=product.name,
        outputs=(),
        part=Part(roi=product.frame.roi, tiles=product.frame.tiles),
        shape=product.shape,
        threshold=Limit(**vars(detector.limit)),
        scale=Scale(low=scale.low, high=scale.high, colours=palette().hex()),
        dark=product.dark,
        origin=Origin(
            source=origin.source,
            fitted=origin.fitted,
            updated=origin.updated,
            images=len(origin.images),
            backbone=backbone.name,
            weights=backbone.sha256 or "",
            version=__version__,
        ),
    )


def _needs(kind: Format) -> None:
    for module in _NEEDED[kind]:
        if find_spec(module) is None:
            extra = "openvino" if module == "openvino" else "export"
            raise ConfigError(f"export: {module} is missing, run: pip install 'bayfed[{extra}]'")


def _onnx(program: ExportedProgram, names: Sequence[str], card: Card) -> bytes:
    """Return the ONNX file of a traced graph, with nothing in it of this machine."""
    import onnx

    with _quiet():
        made = torch.onnx.export(
            program, (), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=[INPUT], output_names=list(names),
        )  # fmt: skip
    model = made.model_proto if made is not None else onnx.ModelProto()
    if model.ByteSize() > MAX_BYTES:
        raise ProductError(f"export: the graph is larger than {MAX_BYTES >> 20} MB")
    # The exporter notes where each node comes from, with the paths of this machine.
    _forget(model)
    for side, name in zip(model.graph.input[0].type.tensor_type.shape.dim, SIDES, strict=False):
        side.dim_param = name
    model.graph.name, model.producer_name, model.producer_version = card.name, "bayfed", __version__
    onnx.helper.set_model_props(model, {KEY: card.model_dump_json()})
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _forget(model: Any) -> None:
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info,
                 *graph.initializer):  # fmt: skip
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:]


def written(path: Path, data: bytes, kind: Format) -> list[Path]:
    """Write the files of an export; the one that names the others is the last."""
    if kind is Format.ONNX:
        path.write_bytes(data)
        return [path]
    import openvino

    source = path.with_suffix(ONNX)
    source.write_bytes(data)
    try:
        with _quiet():
            model = openvino.convert_model(source)
            model.set_rt_info(metadata_of(data, path)[KEY], KEY.split("."))
            openvino.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ProductError(f"export: OpenVINO cannot take the graph ({reason})") from error
    return [path.with_suffix(WEIGHTS), path]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what exporters say of their own progress from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
