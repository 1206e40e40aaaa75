"""Why an image has its score: by feature stage, by the nearest good patch, and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bayfed.data import Pixels
from bayfed.errors import ProductError
from bayfed.features.trunk import FrozenTrunk
from bayfed.features.views import refine
from bayfed.folders import make_folder
from bayfed.inference.frame import Box, placed
from bayfed.inference.inspection import Inspection
from bayfed.inference.overlay import overlay
from bayfed.inference.rows import save_picture
from bayfed.methods.fitted import View
from bayfed.methods.folded import FoldedT
from bayfed.product.detector import Detector, Map
from bayfed.product.thresholds import percent

PATCH = 256
"""Side of a patch that is drawn, in pixels."""
AROUND = 1.5
"""Tokens that a patch shows on each side of its middle: what a token of a late stage sees."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why an image has its score.

    Attributes:
        inspection: What the detector says.
        stages: Name of a feature stage -> its part ``(h, w)`` of the surprise; with the dark end of
            the product's scale added once, their sum is the map.
        patch: The most suspicious patch of the image.
        nearest: The good patch nearest to it; None where no pictures are kept.
        nearest_name: The image that it is from.
        distance: Score that the distance alone would give, had the supports told the law exactly.
        uncertainty: What it adds or takes off that they have not.
        words: All this in sentences.
    """

    inspection: Inspection
    stages: dict[str, Map]
    patch: Pixels = field(repr=False)
    nearest: Pixels | None = field(repr=False)
    nearest_name: str
    distance: float
    uncertainty: float
    words: tuple[str, ...]


def explain(detector: Detector, pixels: Pixels, place: str = "image") -> Explanation:
    """Return why ``pixels`` have their score.

    Raises:
        ProductError: no threshold is set, or the product has no map.
        DataError: the image does not hold the inspected part.
    """
    product, method = detector.product, detector.system.method
    outputs = detector.outputs([pixels], [place])
    scores = detector.scored(outputs, [place])
    if scores.tokens is None:
        raise ProductError(f"product {product.name}: at the image grain there is no map to explain")
    (inspection,) = detector.judged(scores, [pixels])
    views = method.seen(detector.adapted, outputs)
    surprise = scores.tokens[0]
    whole = detector.map_of(surprise)
    shares = stage_shares(views, _widths(detector, views), product.frame.tiles**2)
    excess = whole - product.dark
    stages = {name: excess * detector.map_of(part) for name, part in shares.items()}
    box = product.frame.box(pixels.shape, place)
    row, column = (int(i) for i in np.unravel_index(int(whole.argmax()), whole.shape))
    found = _nearest(detector, views[0], int(surprise.argmax()))
    certain = float(method.score(method.certain(detector.adapted), outputs).image[0])
    nearest, name = found or (None, "")
    return Explanation(
        inspection=inspection,
        stages=stages,
        patch=_cut(pixels, box, (row, column), whole.shape),
        nearest=nearest,
        nearest_name=name,
        distance=certain,
        uncertainty=inspection.score - certain,
        words=tuple(_words(detector, inspection, certain, stages, (row, column), name)),
    )


def draw(found: Explanation, detector: Detector, pixels: Pixels, folder: Path) -> None:
    """Write the overlay, one for each stage, and the patch beside the nearest good one.

    Raises:
        ConfigError: the folder cannot be made.
        ProductError: a picture cannot be written.
    """
    make_folder(folder)
    scale, seen = detector.scale, found.inspection
    box = detector.product.frame.box(pixels.shape, "image")
    save_picture(folder / "overlay.png", overlay(pixels, seen, scale))
    for name, part in found.stages.items():
        dark = detector.product.dark
        whole = placed(dark + part, box, pixels.shape, dark)
        stage = replace(seen, surprise=whole, regions=())
        save_picture(folder / f"{name.replace(' ', '_')}.png", overlay(pixels, stage, scale))
    if found.nearest is not None:
        pair = [_enlarged(patch) for patch in (found.patch, found.nearest)]
        save_picture(folder / "nearest.png", np.concatenate(pair, axis=1))


def _enlarged(patch: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(patch).resize((PATCH, PATCH), Image.Resampling.BICUBIC))


def stage_shares(
    views: Sequence[View], widths: Sequence[dict[str, int]], tiles: int = 1
) -> dict[str, Tensor]:
    r"""Return each stage's share ``(t,)`` of the distances of one image's tokens.

    .. math::
        \Delta^2 \approx \sum_g \delta_g^\top (A^\top r)_g, \quad
        r = A x - a, \quad \delta = x - \bar x

    summed over the channels of a stage :math:`g`, with :math:`\bar x` the mean token of the
    support, and brought to the grid of the first view where that of another is coarser. A share
    can be negative, where a stage speaks for a token that others speak against; shares add up to
    1.

    Args:
        views: Of one image.
        widths: For each of them, name of a stage -> its channels.
        tiles: Into which the image is cut, in all.
    """
    parts: dict[str, Tensor] = {}
    for view, stages in zip(views, widths, strict=True):
        law, support = view.adapted.fit.law, view.adapted.fit.support
        if isinstance(law, FoldedT) and not isinstance(support, Tensor):
            rest = view.inputs[0] @ law.weight.mT - law.offset
            each = (view.inputs[0] - support.whole.mean) * (rest @ law.weight)
            scaled = view.weight / law.dof.new_tensor(law.location.shape[-1]) * each
            number = views[0].inputs.shape[1] // tiles
            sums = (
                refine(part.sum(-1).reshape(tiles, -1), number).flatten()
                for part in torch.split(scaled, list(stages.values()), -1)
            )
            parts |= dict(zip(stages, sums, strict=True))
    total = torch.stack(list(parts.values())).sum(0)
    safe = torch.where(total.abs() > 0, total, torch.ones_like(total))
    return {name: part / safe for name, part in parts.items()}


def _widths(detector: Detector, views: Sequence[View]) -> list[dict[str, int]]:
    """Return the channels of each stage, for each view."""
    settings, encoder = detector.product.experiment.backbone, detector.system.encoder
    trunk, method = encoder.trunk, detector.product.experiment.method
    whole = getattr(method, "relu", False) or getattr(method, "normalise", False)
    if not isinstance(trunk, FrozenTrunk) or settings.trainable != "head" or whole:
        return [{f"view {i}": view.inputs.shape[-1]} for i, view in enumerate(views)]
    channels = trunk.backbone.channels[: len(settings.stages)]
    names = [f"stage {stage}" for stage in settings.stages]
    first = dict(zip(names, channels, strict=True))
    if settings.wide is None:
        return [first]
    return [first, {settings.wide.layer: encoder.views[1].tail.channels}]


def _nearest(detector: Detector, view: View, place: int) -> tuple[Pixels, str] | None:
    """Return the good patch nearest to a token by the law's own distance; None without pictures."""
    product, law = detector.product, view.adapted.fit.law
    if not product.supports or not isinstance(law, FoldedT):
        return None
    best: tuple[float, int, int] | None = None
    for number, picture in enumerate(product.supports):
        outputs = detector.outputs([picture], [product.provenance.images[number].name])
        tokens = detector.system.method.seen(detector.adapted, outputs)[0].inputs[0]
        between = ((tokens - view.inputs[0, place]) @ law.weight.mT).square().sum(-1)
        nearest = int(between.argmin())
        if best is None or float(between[nearest]) < best[0]:
            best = float(between[nearest]), number, nearest
    if best is None:
        return None
    _, number, token = best
    picture, name = product.supports[number], product.provenance.images[number].name
    marks = torch.zeros(view.inputs.shape[1])
    marks[token] = 1
    grid = detector.map_of(marks)
    row, column = (int(i) for i in np.unravel_index(int(grid.argmax()), grid.shape))
    box = product.frame.box(picture.shape, name)
    return _cut(picture, box, (row, column), grid.shape), name


def _cut(pixels: Pixels, box: Box, cell: tuple[int, int], shape: tuple[int, ...]) -> Pixels:
    """Return the pixels around a token."""
    spans = []
    sides = ((box.y, box.height), (box.x, box.width))
    for place, cells, (start, side) in zip(cell, shape, sides, strict=True):
        low, high = (start + side * (place + 0.5 + edge) / cells for edge in (-AROUND, AROUND))
        first = max(start, int(low))
        spans.append(slice(first, max(first + 1, min(start + side, round(high)))))
    return pixels[spans[0], spans[1]]


def _words(
    detector: Detector,
    inspection: Inspection,
    certain: float,
    stages: dict[str, Map],
    cell: tuple[int, int],
    nearest: str,
) -> list[str]:
    gap = inspection.score - certain
    at = {name: float(part[cell]) for name, part in stages.items()}
    total = sum(at.values()) or 1.0
    split = ", ".join(f"{name} {percent(round(v / total, 2))}" for name, v in at.items())
    return [
        f"{inspection.decision}: score {inspection.score:.3f}, threshold {detector.threshold:.3f}",
        f"distance alone would give {certain:.3f}; that {len(detector.product.provenance.images)} "
        f"images leave the law open {'adds' if gap > 0 else 'takes off'} {abs(gap):.3f}",
        f"{percent(round(inspection.epistemic, 2))} of the variance of the score would go with "
        "many more good images",
        f"the most suspicious patch is seen by {split}",
        f"the nearest good patch is in {nearest}"
        if nearest
        else "no nearest good patch: the product was fitted without --keep-supports",
    ]
