"""A product whose good parts are dark: its score is the brightness of the picture."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from bayfed.data import Pixels
from bayfed.errors import DataError
from bayfed.evaluation.colours import ColourScale
from bayfed.inference.inspection import Decision, Inspection, Region

THRESHOLD, DOUBT = 0.5, 0.2


class Lamp:
    """Scores of 0.5 and more are defects; those within 0.2 of it are for a person.

    ``gate`` holds scoring up while it is closed, ``entered`` tells that it has begun, and
    ``batches`` are the sizes of what was scored.
    """

    name, fpr, threshold = "lamp", 0.05, THRESHOLD
    promise = "5 % of good parts"
    scale = ColourScale(0.0, 1.0, THRESHOLD)

    def __init__(self, goods: int = 5) -> None:
        self.goods = goods
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.batches: list[int] = []

    @classmethod
    def load(cls, path: Path) -> Lamp:
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        return cls(json.loads(path.read_text())["goods"])

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"goods": self.goods}))

    def update(self, images: Sequence[Pixels]) -> None:
        self.goods += len(images)

    def score(self, images: Sequence[Pixels]) -> list[Inspection]:
        self.entered.set()
        self.gate.wait(60)
        self.batches.append(len(images))
        if any(image.shape == (13, 13, 3) for image in images):
            raise RuntimeError("13 brings bad luck")
        return [self._inspected(image) for image in images]

    def _inspected(self, image: Pixels) -> Inspection:
        grid = np.asarray(Image.fromarray(image).convert("L").resize((8, 8)), np.float32) / 255
        score = float(image.mean()) / 255
        doubt = 1 - abs(score - THRESHOLD)
        decision = Decision.DEFECT if score > THRESHOLD else Decision.OK
        if abs(score - THRESHOLD) < DOUBT:
            decision = Decision.REVIEW
        regions = (Region(0, 0, image.shape[1], image.shape[0], image[..., 0].size, score),)
        lit = regions if score > THRESHOLD else ()
        return Inspection(score, 4 * (score - 0.5), 1 - score, doubt, decision, grid, lit)


def png(brightness: float, side: int = 32, mark: int = 0) -> bytes:
    """Return a picture; ``mark`` makes it another file of nearly the same brightness."""
    image = np.full((side, side, 3), round(255 * brightness), np.uint8)
    image[0, 0] = mark % 256, mark // 256, 0
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
