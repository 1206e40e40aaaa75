"""From pictures to the trunk outputs that a product's method adapts to and scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from torch import Tensor

from bayfed.config import Experiment
from bayfed.data import Pixels
from bayfed.data.turned import Poses, turn
from bayfed.errors import DataError
from bayfed.features import Encoder
from bayfed.features.outputs import trunk_outputs
from bayfed.features.preprocess import LARGEST, Shape, input_shape
from bayfed.inference.frame import Frame


def usual_shape(
    experiment: Experiment, frame: Frame, images: Sequence[Pixels], places: Sequence[str]
) -> Shape:
    """Return the shape of the network's input for a product that ``images`` show.

    Args:
        experiment: Its settings.
        frame: The inspected part.
        images: Of the support.
        places: What messages call them.

    Raises:
        DataError: an image does not hold the inspected part, or the part is too thin.
    """
    settings = experiment.backbone
    boxes = [frame.box(pixels.shape, at) for pixels, at in zip(images, places, strict=True)]
    if settings.aspect == "square":
        return settings.image_size, settings.image_size
    ratio = median(box.height / box.width for box in boxes)
    shape = input_shape(ratio, settings.image_size)
    if math.prod(shape) > LARGEST:
        raise DataError(f"{places[0]}: a height of {ratio:g} widths is no shape for a network")
    return shape


@dataclass(frozen=True)
class Lens:
    """How one product is seen.

    Attributes:
        encoder: Its trunk makes the outputs.
        frame: The part of an image that is seen, and its tiles.
        shape: Of the network's input.
        dtype: In which outputs are kept, as in training.
    """

    encoder: Encoder
    frame: Frame
    shape: Shape
    dtype: str

    def warm(self) -> None:
        """Run the network once."""
        nothing = np.zeros((1, 1, 3), np.uint8)
        trunk_outputs(self.encoder.trunk, [nothing], self.shape, self.dtype, "warm-up")

    def query(self, images: Sequence[Pixels], places: Sequence[str]) -> Tensor:
        """Return ``(n, ...)`` trunk outputs, ``(n, tiles, ...)`` of more than one tile.

        Raises:
            DataError: an image does not hold the inspected part.
            NumericalError: an output is not finite.
        """
        tiles = [self.frame.cut(p, at) for p, at in zip(images, places, strict=True)]
        return self._outputs([tile for parts in tiles for tile in parts])

    def support(self, images: Sequence[Pixels], places: Sequence[str], poses: Poses) -> Tensor:
        """Return ``(k * poses, ...)`` trunk outputs, the poses of an image in a row.

        Raises:
            DataError: an image does not hold the inspected part.
            NumericalError: an output is not finite.
        """
        tiles = [self.frame.cut(p, at) for p, at in zip(images, places, strict=True)]
        return self._outputs(
            [turn(tile, pose) for parts in tiles for pose in poses for tile in parts]
        )

    def _outputs(self, pictures: Sequence[Pixels]) -> Tensor:
        batch = self.encoder.trunk.batch
        parts = [
            trunk_outputs(
                self.encoder.trunk, pictures[i : i + batch], self.shape, self.dtype, "image"
            )
            for i in range(0, len(pictures), batch)
        ]
        outputs = torch.from_numpy(np.concatenate(parts))
        number = self.frame.tiles**2
        return outputs if number == 1 else outputs.reshape(-1, number, *outputs.shape[1:])
