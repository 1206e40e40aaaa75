"""A product as one file: safetensors, with a readable header in its metadata.

The statistics of the support, the prior and the other meta-parameters are kept, the posterior is
not: it is computed from them on load, by the same function as at the fit.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bayfed.config import Experiment, parse_experiment
from bayfed.data import Pixels
from bayfed.data.files import to_rgb
from bayfed.errors import BayfedError, ProductError
from bayfed.evaluation.atomic import write_atomic
from bayfed.evaluation.checkpoint import digest, flat, nested
from bayfed.inference.frame import Box, Frame
from bayfed.methods.base import KeptMethod
from bayfed.product.calibration import Calibration, Threshold
from bayfed.product.header import SCHEMA, Header, Images, Limit, Origin, Region, Scores
from bayfed.product.product import Good, Product, Provenance

MAX_BYTES = 256 << 20
"""A product whose backbone is trained as a whole holds it, and one may keep its pictures."""
HEADER = "bayfed.product"
"""Key of the metadata under which the header stands, as JSON."""
PARAMS, FITTED, POOLED, SUPPORTS = "params", "fitted", "pooled", "supports"
_SETTINGS = {"seed": True, "device": True, "backbone": True, "store": {"dtype"}, "method": True}


def write(path: Path, product: Product) -> None:
    """Write ``product``; the file is replaced as a whole or not at all.

    Raises:
        ProductError: it cannot be written.
    """
    tensors = _tensors(product)
    header = _header(product, digest(tensors))
    text = header.model_dump_json()
    try:
        write_atomic(path, save(tensors, {HEADER: text}))
    except OSError as error:
        raise ProductError(f"{path}: {error.strerror or error}") from error


def read(path: Path) -> Product:
    """Return the product in a file; its weights are not looked at.

    Raises:
        ProductError: the file is no product, damaged, too large or of a newer version.
    """
    tree, tensors = _open(path)
    version = tree.get("schema_version") if isinstance(tree, dict) else None
    if isinstance(version, int) and version > SCHEMA:
        raise ProductError(
            f"{path}: schema {version} of a newer bayfed, this one reads up to {SCHEMA}"
        )
    try:
        header = Header.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ProductError(f"{path}: damaged header ({key}: {first['msg']})") from None
    if header.digest != digest(tensors):
        raise ProductError(f"{path}: the tensors are not those that were written")
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise ProductError(f"{path}: {name} is not finite")
    try:
        return _product(header, tensors)
    except BayfedError as error:
        raise ProductError(f"{path}: {error}") from error


def check_params(path: Path, product: Product, method: KeptMethod) -> None:
    """Check that meta-parameters are those that ``method`` has.

    Raises:
        ProductError: one is missing, unknown or of another shape or type.
    """
    expected = method.initial(product.experiment.seed)
    kinds = {name: (value.shape, value.dtype) for name, value in product.params.items()}
    if kinds != {name: (value.shape, value.dtype) for name, value in expected.items()}:
        raise ProductError(f"{path}: its parameters are not those of its settings")


def _open(path: Path) -> tuple[Any, dict[str, Tensor]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ProductError(f"{path}: larger than {MAX_BYTES >> 20} MB")
        with safe_open(path, framework="pt") as file:
            tree = json.loads((file.metadata() or {})[HEADER])
            # Copies are aligned alike wherever a tensor lies in the file, and so give equal sums.
            return tree, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise ProductError(f"{path}: no such file") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ProductError(f"{path}: not a product file, or cut off") from error


def _tensors(product: Product) -> dict[str, Tensor]:
    groups = {
        PARAMS: product.params,
        FITTED: product.fitted,
        POOLED: dict(product.calibration.pooled),
        SUPPORTS: {f"{i:04d}": _png(pixels) for i, pixels in enumerate(product.supports)},
    }
    return {name: v.detach().cpu().contiguous() for name, v in flat(groups).items()}


def _png(pixels: Pixels) -> Tensor:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return torch.from_numpy(np.frombuffer(buffer.getvalue(), np.uint8).copy())


def _picture(name: str, data: Tensor) -> Pixels:
    try:
        with Image.open(io.BytesIO(data.numpy().tobytes()), formats=("PNG",)) as image:
            return to_rgb(image, name)
    except (OSError, ValueError, SyntaxError, TypeError) as error:
        raise ProductError(f"{name} is no picture") from error


def _header(product: Product, hashed: str) -> Header:
    experiment, frame, origin = product.experiment, product.frame, product.provenance
    calibration, threshold = product.calibration, product.threshold
    return Header(
        schema_version=SCHEMA,
        name=product.name,
        settings=experiment.model_dump(mode="json", include=_SETTINGS),  # type: ignore[arg-type]
        frame=Region(roi=frame.roi, tiles=frame.tiles),
        shape=product.shape,
        threshold=None if threshold is None else Limit(**vars(threshold)),
        scores=Scores(
            own=tuple(calibration.own.tolist()),
            normals=tuple(calibration.normals.tolist()),
            defects=tuple(calibration.defects.tolist()),
            pooled_shots=calibration.shots,
        ),
        dark=product.dark,
        provenance=Origin(
            source=origin.source,
            version=origin.version,
            fitted=origin.fitted,
            updated=origin.updated,
            images=tuple(Images(name=good.name, sha256=good.digest) for good in origin.images),
        ),
        digest=hashed,
    )


def _product(header: Header, tensors: dict[str, Tensor]) -> Product:
    origin, scores, limit = header.provenance, header.scores, header.threshold
    groups: dict[str, dict[str, Tensor]] = defaultdict(dict, nested(tensors))
    experiment: Experiment = parse_experiment(header.settings, "settings")
    return Product(
        name=header.name,
        experiment=experiment,
        frame=Frame(Box(*header.frame.roi) if header.frame.roi else None, header.frame.tiles),
        shape=header.shape,
        params=groups[PARAMS],
        fitted=groups[FITTED],
        calibration=Calibration(
            np.array(scores.own, dtype=np.float64),
            np.array(scores.normals, dtype=np.float64),
            groups[POOLED],
            scores.pooled_shots,
            np.array(scores.defects, dtype=np.float64),
        ),
        threshold=None if limit is None else Threshold(**dict(limit)),
        dark=header.dark,
        provenance=Provenance(
            origin.source,
            origin.version,
            tuple(Good(image.name, image.sha256) for image in origin.images),
            origin.fitted,
            origin.updated,
        ),
        supports=tuple(_picture(name, data) for name, data in sorted(groups[SUPPORTS].items())),
    )
