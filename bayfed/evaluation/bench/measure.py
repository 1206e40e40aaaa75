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
from bayfed.episodes import Pools, calibration_normals, draw_supports
from bayfed.evaluation.calibrate import SMALLEST_SUPPORT, image_scores
from bayfed.evaluation.site import (
    detection_columns,
    identity_columns,
    localisation_columns,
    masks_of,
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
        settings: Shots and draws.
        seed: Of the experiment.
        scores: Whether the test images are scored.
        calibrates: Whether other normals are scored, for the pooled p-values.

    Raises:
        ProtocolError: the site has fewer good images than shots.
        NumericalError: a score is not finite.
    """
    supports = draw_supports(view.pools, settings.shots, seed, settings.draws)
    normals = calibration_normals(view.pools, settings.calibration, seed) if calibrates else ()
    return tuple(
        _draw(method, params, view, images, draw, scores, normals)
        for draw, images in supports.items()
    )


def _draw(
    method: Method,
    params: Params,
    view: View,
    images: Sequence[SiteImage],
    draw: int,
    scores: bool,
    normals: Sequence[SiteImage],
) -> Drawn:
    pools, features, masks = view
    chosen = {image.name for image in images}
    support = read_support(features, images, method.turns)
    started = time.perf_counter()
    adapted = method.adapt(params, support)
    seconds = time.perf_counter() - started
    rest: list[str] = []
    if len(images) >= SMALLEST_SUPPORT:
        rest = [image.name for image in normals if image.name not in chosen]
    drawn = Drawn(
        own=method.support_scores(adapted).numpy(),
        rest=image_scores(method, adapted, features, rest).numpy(),
    )
    if not scores:
        return drawn
    found = score_adapted(method, adapted, pools.testing, features, {}, seconds)
    columns = identity_columns(pools, len(images), draw) | detection_columns(found)
    return replace(
        drawn,
        columns=columns | localisation_columns(found, masks),
        score=found.score.numpy(),
        defective=found.defective,
        p_value=None if found.p_value is None else found.p_value.numpy(),
    )
