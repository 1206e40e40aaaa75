"""One site measured with one set of parameters, free of what the other sites will add."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bayfed.config import Evaluation
from bayfed.data import SiteImage
from bayfed.episodes import Draw, Pools, calibration_normals, draws_of
from bayfed.evaluation.calibrate import SMALLEST_SUPPORT, image_scores, own_scores
from bayfed.evaluation.site import (
    detection_columns,
    identity_columns,
    localisation_columns,
    masks_of,
    rejection_columns,
    score_adapted,
)
from bayfed.evaluation.supports import read_support
from bayfed.features import Params, StoredFeatures
from bayfed.methods import Method
from bayfed.metrics.regions import Regions

Floats = NDArray[np.floating[Any]]


class View(NamedTuple):
    """A site as one protocol shows it, with what is read of it again and again."""

    pools: Pools
    features: StoredFeatures
    masks: Mapping[str, Regions]


@dataclass(frozen=True)
class Drawn:
    """One support of a site, and the scores behind its p-values.

    Attributes:
        own: ``(k,)`` leave-one-image-out scores of the support.
        rest: ``(m,)`` scores of normals outside the support; empty where not calibrated.
        columns: Columns of the row that need nothing of other sites; {} where not scored.
        score: ``(n,)`` scores of the test images, or None where not scored.
        defective: ``(n,)`` which of them have a defect, or None where not scored.
        p_value: ``(n,)`` under the method's own law, or None.
    """

    own: Floats
    rest: Floats
    columns: dict[str, Any] = field(default_factory=dict)
    score: Floats | None = None
    defective: NDArray[np.bool_] | None = None
    p_value: Floats | None = None


def view_of(pools: Pools, features: StoredFeatures, image_size: int) -> View:
    """Return the view of ``pools``, its masks on maps of ``image_size`` pixels a side."""
    return View(pools, features, masks_of(pools, image_size))


@torch.no_grad()
def measure_site(
    method: Method,
    params: Params,
    view: View,
    settings: Evaluation,
    seed: int,
    scores: bool = True,
    calibrates: bool = True,
) -> tuple[Drawn, ...]:
    """Adapt to each draw of the support once, and score what the bench asks for.

    Args:
        method: The system.
        params: Its meta-parameters.
        view: The site.
        settings: Shots, draws and label noise.
        seed: Of the experiment.
        scores: Whether the test images are scored.
        calibrates: Whether other normals are scored, for the pooled p-values.

    Raises:
        ProtocolError: the site has fewer good images than shots, or no defect for the noise.
        NumericalError: a score is not finite.
    """
    found = []
    for draw in draws_of(view.pools, settings, seed):
        normals = calibration_normals(draw.pools, settings.calibration, seed) if calibrates else ()
        found.append(_measured(method, params, view, draw, settings, scores, normals))
    return tuple(found)


def _measured(
    method: Method,
    params: Params,
    view: View,
    draw: Draw,
    settings: Evaluation,
    scores: bool,
    normals: Sequence[SiteImage],
) -> Drawn:
    features = view.features
    chosen = {image.name for image in draw.support}
    support = read_support(features, draw.support, method.poses)
    started = time.perf_counter()
    adapted = method.adapt(params, support)
    seconds = time.perf_counter() - started
    rest: list[str] = []
    if len(draw.support) >= SMALLEST_SUPPORT:
        rest = [image.name for image in normals if image.name not in chosen]
    own = own_scores(method, adapted, len(draw.support))
    drawn = Drawn(own=own.numpy(), rest=image_scores(method, adapted, features, rest).numpy())
    if not scores:
        return drawn
    found = score_adapted(method, adapted, draw.pools.testing, features, {}, own, seconds)
    columns = identity_columns(draw, settings) | rejection_columns(draw, found.rejected)
    columns |= detection_columns(found) | localisation_columns(found, view.masks)
    return replace(
        drawn,
        columns=columns,
        score=found.score.numpy(),
        defective=found.defective,
        p_value=None if found.p_value is None else found.p_value.numpy(),
    )
