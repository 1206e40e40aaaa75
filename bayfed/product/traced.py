"""A detector as one function of a decoded picture, made of the modules that score, for a tracer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from bayfed.features.resample import resampled
from bayfed.features.trunk import FrozenTrunk
from bayfed.inference.card import DECISION, EPISTEMIC, HEATMAP, INPUT, ODDS, P_VALUE, SCORE
from bayfed.inference.decide import REVIEW
from bayfed.inference.frame import Box
from bayfed.methods.few import EmbeddedT, dense
from bayfed.methods.fitted import Adapted
from bayfed.methods.folded import FoldedT
from bayfed.methods.surprise import inflated_at
from bayfed.normality import f_law_p_value
from bayfed.product.curve import Curve, Floats, curve_of, sampled
from bayfed.product.detector import Detector
from bayfed.product.thresholds import FLaw

SIDES = "height", "width"
"""Names of the sides that a graph takes as they come."""
LARGEST = 1 << 16
"""Longest side of a picture that the graph is made for."""
EXAMPLE = 97, 89
"""Shape of the picture that the graph is traced with; of no consequence."""
FARTHEST = 1e12
"""Squared distance until which the F law is followed."""


class SilentT(FoldedT):
    """A law whose p-values are looked up elsewhere."""

    def p_value(self, tokens: Tensor) -> Tensor:
        """Return zeros: the incomplete beta function cannot be traced."""
        return torch.zeros_like(tokens[..., 0])


class Traced(nn.Module):
    """What a detector says of a picture, as a dictionary of tensors.

    Args:
        detector: With a threshold.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self._detector = detector
        self._threshold = detector.threshold
        trunk = detector.system.encoder.trunk
        self._trunk = replace(trunk, folded=False) if isinstance(trunk, FrozenTrunk) else trunk
        self._adapted = _traceable(detector.adapted)
        self._curve = null_curve(detector)
        grid = detector.system.encoder.grid
        self._cells = torch.from_numpy(detector.frame.cells(grid))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Inspect ``(H, W, 3)`` uint8."""
        product, method = self._detector.product, self._detector.system.method
        outputs = self._trunk(self._tiles(image))
        kept = getattr(torch, product.experiment.store.dtype)
        if outputs.dtype != torch.uint8:
            outputs = outputs.to(kept)
        number = product.frame.tiles**2
        query = outputs if number == 1 else outputs[None]
        scores = method.score(self._adapted, query, spread=True)
        odds, spread = cast(Tensor, scores.log_odds), cast(Any, scores.spread)
        parameters, tokens = spread
        found = {SCORE: scores.image[0], ODDS: odds[0]}
        if self._curve is not None:
            found[P_VALUE] = self._curve.p_value(scores.image)[0]
        total = parameters + tokens
        found[EPISTEMIC] = torch.where(total > 0, parameters / total, 0.0)[0]
        found[DECISION] = self._decision(scores.image, parameters)[0]
        if scores.tokens is not None:
            found[HEATMAP] = scores.tokens.float().flatten()[self._cells].amax(-1)
        return found

    def _tiles(self, image: Tensor) -> Tensor:
        """Return the tiles of the inspected part at the network's shape."""
        product = self._detector.product
        frame = product.frame
        if frame.roi is not None:
            x, y, width, height = frame.roi
            image = image[y : y + height, x : x + width]
        rows, columns = (frame.spans(side) for side in image.shape[:2])
        return resampled(image, product.shape, rows, columns).permute(0, 3, 1, 2)

    def _decision(self, score: Tensor, variance: Tensor) -> Tensor:
        """Return the place of :func:`bayfed.inference.decide.decide`'s answer in ``DECISIONS``."""
        away = (score - self._threshold).abs()
        doubtful = away <= REVIEW * variance.clamp(min=0).sqrt()
        return torch.where(doubtful, 2, (score > self._threshold).long())


def trace(detector: Detector) -> tuple[ExportedProgram, tuple[str, ...]]:
    """Return the graph of a detector for pictures of every size, and the names of its outputs.

    Raises:
        ProductError: no threshold is set.
    """
    module = Traced(detector).eval()
    box = detector.frame.roi or Box(0, 0, 0, 0)
    least = max(2, detector.frame.tiles)
    lowest = max(least, box.y + box.height), max(least, box.x + box.width)
    height, width = (low + more for low, more in zip(lowest, EXAMPLE, strict=True))
    picture = torch.zeros(height, width, 3, dtype=torch.uint8)
    sides = {
        i: Dim(name, min=low, max=LARGEST)
        for i, (name, low) in enumerate(zip(SIDES, lowest, strict=True))
    }
    with torch.no_grad():
        names = tuple(module(picture))
        program = torch.export.export(
            module, (picture,), dynamic_shapes={INPUT: sides}, strict=False
        )
    return program, names


def null_curve(detector: Detector) -> Curve | None:
    """Return the table of the p-values that the detector gives; None where it has none."""
    law, own = detector.law(), detector.product.calibration.own
    if not isinstance(law, FLaw):
        return curve_of(law, own)
    adapted = detector.adapted
    dof, dim = adapted.fit.law.dof.double(), adapted.fit.law.location.shape[-1]
    params = {name: value.double() for name, value in adapted.params.items()}

    def point(logs: Floats) -> tuple[Floats, Floats]:
        distance = torch.from_numpy(np.exp(logs))
        p = f_law_p_value(distance, dof, dim).clamp_min(1e-30)
        return inflated_at(params, distance, dof, dim).numpy(), p.log().numpy()

    return sampled(point, np.linspace(-12, np.log(FARTHEST), 64))


def _traceable(adapted: Any) -> Any:
    """Return what a method has adapted, without what a tracer cannot follow."""
    if not isinstance(adapted, Adapted):
        return adapted
    law = adapted.fit.law
    folded = dense(law) if isinstance(law, EmbeddedT) else law
    return adapted._replace(fit=adapted.fit._replace(law=SilentT(*folded)))
