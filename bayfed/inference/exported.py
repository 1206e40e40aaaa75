"""A detector that was exported, scored by ONNX Runtime alone, or by OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayfed.data import Pixels
from bayfed.errors import ConfigError, ProductError
from bayfed.evaluation.colours import ColourScale
from bayfed.inference.card import (
    DECISION,
    EPISTEMIC,
    HEATMAP,
    INPUT,
    KEY,
    ODDS,
    P_VALUE,
    SCORE,
    Card,
    read_card,
)  # fmt: skip
from bayfed.inference.frame import Frame
from bayfed.inference.hostile import MAX_BYTES, metadata_of
from bayfed.inference.inspection import Decision, Inspection
from bayfed.inference.pictures import Picture, pixels_of, place_of, several
from bayfed.inference.regions import located

ONNX, OPENVINO = ".onnx", ".xml"
"""Endings of exported files."""
Outputs = Mapping[str, NDArray[Any]]
Run = Callable[[Pixels], Outputs]


class Exported:
    """An exported detector of one product.

    Use :meth:`load`, not the constructor. What it says of an image is what the fitted detector
    says, within the tolerance that the export has checked on real images.
    """

    def __init__(self, card: Card, run: Run) -> None:
        self.card = card
        self._run, self._frame = run, card.frame

    @classmethod
    def load(cls, path: Path | str, threads: int | None = None) -> Exported:
        """Return the detector in a file of ``bayfed export``.

        Args:
            path: An ONNX file, or the ``.xml`` of OpenVINO with its ``.bin`` beside it.
            threads: That an image is scored with; None = as many as there are cores.

        Raises:
            ProductError: the file is no exported detector, damaged, too large or of a newer
                version, or names other files.
            ConfigError: its runtime is not installed.
        """
        path = Path(path)
        if path.suffix == OPENVINO:
            return cls(*_openvino(path, threads))
        return cls(*_onnx(_bytes(path), path, threads))

    def score(self, images: Iterable[Picture]) -> list[Inspection]:
        """Return what the detector says of each image.

        Raises:
            DataError: an image cannot be used.
        """
        found: list[Inspection] = []
        for number, image in enumerate(several(images)):
            found += self.inspect([pixels_of(image, number)], [place_of(image, number)])
        return found

    def inspect(self, pixels: Sequence[Pixels], places: Sequence[str]) -> list[Inspection]:
        """Return what the detector says of pictures.

        Args:
            pixels: ``(H, W, 3)`` uint8 each.
            places: What messages call them.

        Raises:
            DataError: a picture does not hold the inspected part.
        """
        return [self._one(one, place) for one, place in zip(pixels, places, strict=True)]

    def outputs(self, pixels: Pixels) -> Outputs:
        """Return the graph's outputs by name.

        Raises:
            ProductError: the graph cannot be run, or gives other outputs than it says.
        """
        try:
            found = self._run(np.ascontiguousarray(pixels))
        except Exception as error:  # a runtime raises what it likes at a damaged graph
            raise ProductError(f"product {self.name}: its graph cannot be run ({error})") from None
        missing = [name for name in self.card.outputs if name not in found]
        if missing:
            raise ProductError(f"product {self.name}: its graph has no output {missing[0]!r}")
        return found

    @property
    def frame(self) -> Frame:
        """The part of an image that is inspected, and its tiles."""
        return self._frame

    @property
    def scale(self) -> ColourScale:
        """The one colour scale of all maps of this product."""
        return self.card.colours

    @property
    def name(self) -> str:
        """Name of the product."""
        return self.card.name

    @property
    def threshold(self) -> float:
        """Score above which a part is defective."""
        return self.card.threshold.value

    @property
    def fpr(self) -> float:
        """Promised share of good parts above the threshold."""
        return self.card.threshold.fpr

    @property
    def promise(self) -> str:
        """What the threshold promises, and what the promise rests on."""
        return self.card.threshold.promise

    def _one(self, pixels: Pixels, place: str) -> Inspection:
        self.frame.check(pixels.shape, place)
        found, card = self.outputs(pixels), self.card
        surprise = regions = None
        if HEATMAP in found:
            part = np.asarray(found[HEATMAP], np.float32)
            limit, dark = card.threshold.value, card.dark
            surprise, regions = located(part, self.frame, pixels.shape, limit, dark)
        return Inspection(
            score=float(found[SCORE]),
            log_odds=float(found[ODDS]),
            p_value=float(found[P_VALUE]) if P_VALUE in found else None,
            epistemic=float(found[EPISTEMIC]),
            decision=self._decision(int(found[DECISION])),
            surprise=surprise,
            regions=regions or (),
        )

    def _decision(self, number: int) -> Decision:
        if not 0 <= number < len(self.card.decisions):
            raise ProductError(f"product {self.name}: its graph decides {number}")
        return self.card.decisions[number]


def is_exported(path: Path) -> bool:
    """Return whether a file is an exported detector, by its name.

    >>> is_exported(Path("part.onnx")), is_exported(Path("part.bayfed"))
    (True, False)
    """
    return path.suffix in (ONNX, OPENVINO)


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ProductError(f"{path}: larger than {MAX_BYTES >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise ProductError(f"{path}: {error.strerror or error}") from None


def _needs(module: str, path: Path, extra: str) -> None:
    if find_spec(module) is None:
        raise ConfigError(f"{path}: {module} is missing, run: pip install 'bayfed[{extra}]'")


def _onnx(data: bytes, path: Path, threads: int | None) -> tuple[Card, Run]:
    card = read_card(metadata_of(data, path).get(KEY), path)
    _needs("onnxruntime", path, "inference")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or 0
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # each kind of damage has an exception of its own
        reason = " ".join(str(error).split())[:200]
        raise ProductError(f"{path}: ONNX Runtime cannot load it ({reason})") from None
    names = [one.name for one in session.get_outputs()]
    return card, lambda pixels: dict(zip(names, session.run(None, {INPUT: pixels}), strict=True))


def _openvino(path: Path, threads: int | None) -> tuple[Card, Run]:
    """Load an IR; numbers narrower than float32, the default of some CPUs, lose the score."""
    for part in (path, path.with_suffix(".bin")):
        if not part.exists():
            raise ProductError(f"{part}: no such file")
        if part.stat().st_size > MAX_BYTES:
            raise ProductError(f"{part}: larger than {MAX_BYTES >> 20} MB")
    _needs("openvino", path, "openvino")
    import openvino

    hints: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        hints["INFERENCE_NUM_THREADS"] = threads
    try:
        core = openvino.Core()
        model = core.read_model(path)
        place = KEY.split(".")
        card = read_card(
            str(model.get_rt_info(place).value) if model.has_rt_info(place) else None, path
        )
        compiled = core.compile_model(model, "CPU", hints)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ProductError(f"{path}: OpenVINO cannot load it ({reason})") from None
    names = [one.get_any_name() for one in compiled.outputs]
    return card, lambda pixels: dict(zip(names, compiled([pixels]).values(), strict=True))
