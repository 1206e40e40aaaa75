"""From a few good images to a product."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from bayfed import __version__
from bayfed.config import Experiment
from bayfed.config import Method as MethodSettings
from bayfed.data import Pixels
from bayfed.errors import ProductError
from bayfed.evaluation.gallery import DARK
from bayfed.features import Params
from bayfed.inference.frame import Frame
from bayfed.inference.pictures import Picture, digest_of, pixels_of, place_of
from bayfed.methods.base import KeptMethod
from bayfed.methods.refined import refined
from bayfed.product.calibration import Calibration
from bayfed.product.lens import Lens, usual_shape
from bayfed.product.product import Good, Product, Provenance, now
from bayfed.product.source import Source, System, build

FEWEST = 2
"""Good images: one has no other to be compared with."""
FILE_BYTES = 2_000_000
"""Above which the statistics of single images give way to their sum."""
SHOWN = 8
"""Supports whose tokens tell where a map is dark."""


def fit_product(
    images: Sequence[Picture], source: Source, frame: Frame, name: str, keep_supports: bool
) -> tuple[Product, System]:
    """Return the product that good ``images`` show, without a threshold, and what computes it.

    Raises:
        ProductError: fewer than two images, or the same twice.
        DataError: an image cannot be used.
        ConfigError: a setting is wrong.
        WeightsError: the backbone's weights are not there, or others.
    """
    pixels, goods = opened(images)
    if len(pixels) < FEWEST:
        raise ProductError(
            f"fit: {len(pixels)} good image{'s' * (len(pixels) != 1)} where at least {FEWEST} are "
            "needed; one has no other to be compared with"
        )
    experiment = _in_single_precision(source.experiment)
    system = build(experiment, frame.tiles)
    method, poses = system.method, len(system.method.poses)
    params = _denser(source.params(method), frame.tiles**2)
    names = [good.name for good in goods]
    shape = usual_shape(experiment, frame, pixels, names)
    lens = Lens(system.encoder, frame, shape, experiment.store.dtype)
    outputs = lens.support(pixels, names, method.poses)
    kept = _kept(method, experiment.method, params, outputs)
    outputs = outputs.reshape(-1, poses, *outputs.shape[1:])[kept].flatten(0, 1)
    adapted = method.adapt(params, outputs)
    product = Product(
        name=name,
        experiment=experiment,
        frame=frame,
        shape=shape,
        params=params,
        fitted=within_limit(method, params, adapted),
        calibration=Calibration(np.empty(0), pooled=source.pooled, shots=source.shots),
        threshold=None,
        dark=_dark(method, adapted, outputs[::poses][:SHOWN]),
        provenance=Provenance(source.name, __version__, tuple(goods[i] for i in kept), now()),
        supports=tuple(pixels[i] for i in kept) if keep_supports else (),
    )
    return product, system


def _in_single_precision(experiment: Experiment) -> Experiment:
    """Return ``experiment`` without the half precision of a store, of which a product has none.

    Runtimes agree on an output to seven digits, but round some to different neighbours of three.
    """
    store = experiment.store.model_copy(update={"dtype": "float32"})
    return experiment.model_copy(update={"store": store})


def opened(
    images: Sequence[Picture],
    known: Sequence[Good] = (),
    why: str = "is there already",
    first: int = 0,
) -> tuple[list[Pixels], list[Good]]:
    """Return the pixels of images and what is remembered of them.

    Args:
        images: Good parts.
        known: Images that must not be among them.
        why: What is wrong where one is.
        first: Number of the first image, for messages.

    Raises:
        ProductError: a picture is among the ``known``, or twice among ``images``.
        DataError: an image cannot be used.
    """
    pixels = [pixels_of(image, number) for number, image in enumerate(images, first)]
    seen = {good.digest: good.name for good in known}
    goods = []
    for number, (image, values) in enumerate(zip(images, pixels, strict=True), first):
        good = Good(place_of(image, number), digest_of(values))
        if good.digest in seen:
            raise ProductError(f"{good.name}: the same picture {why} ({seen[good.digest]})")
        seen[good.digest] = good.name
        goods.append(good)
    return pixels, goods


def within_limit(method: KeptMethod, params: Params, adapted: object) -> Params:
    """Return what must be kept of a fit, of single images as long as the file stays small."""
    fitted = method.tensors(adapted)
    size = sum(value.nbytes for part in (params, fitted) for value in part.values())
    return fitted if size <= FILE_BYTES else method.tensors(method.compact(adapted))


def _denser(params: Params, tiles: int) -> Params:
    """Return the parameters where an image is worth as many observations as its tiles together."""
    more = math.log(tiles)
    ending = "prior.log_effective"
    return {name: value + more * name.endswith(ending) for name, value in params.items()}


def _kept(
    method: KeptMethod, settings: MethodSettings, params: Params, outputs: Tensor
) -> list[int]:
    """Return the images that the method's refinement does not reject."""
    number = len(outputs) // len(method.poses)
    if not settings.refine.cycles:
        return list(range(number))
    around = refined(method, settings.refine, settings.refine)
    rejected = around.adapt(params, outputs).rejected
    return [i for i in range(number) if not rejected[i]]


def _dark(method: KeptMethod, adapted: object, upright: Tensor) -> float:
    """Return the surprise below which a share ``DARK`` of the support's tokens lies."""
    scores = method.score(adapted, upright)
    values = scores.image if scores.tokens is None else scores.tokens
    return float(np.quantile(values.double().numpy(), DARK))
