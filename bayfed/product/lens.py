"""From pictures to the trunk outputs that a product's method adapts to and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from torch import Tensor

from bayfed.config import Experiment
from bayfed.data import Pixels
from bayfed.data.turned import Poses, turn
from bayfed.features import Encoder
from bayfed.features.outputs import trunk_outputs
from bayfed.features.preprocess import Shape, input_shape
from bayfed.inference.frame import Frame


def usual_shape(experiment: Experiment, frame: Frame, images: Sequence[Pixels]) -> Shape:
    """Return the shape of the network's input for a product that ``images`` show.

    Raises:
        DataError: an image does not hold the inspected part.
    """
    settings = experiment.backbone
    boxes = [frame.box(pixels.shape, f"image {i}") for i, pixels in enumerate(images)]
    if settings.aspect == "square":
        return settings.image_size, settings.image_size
    return input_shape(median(box.height / box.width for box in boxes), settings.image_size)


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
