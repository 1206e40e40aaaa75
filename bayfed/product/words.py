"""What a product is, in words for its user."""

from __future__ import annotations

from bayfed.product.product import Product
from bayfed.product.thresholds import percent


def facts(product: Product, size: int) -> dict[str, str]:
    """Return what a user wants to know of a product, by name.

    Args:
        product: The product.
        size: Of its file, in bytes.
    """
    origin, threshold, backbone = product.provenance, product.threshold, product.experiment.backbone
    calibration = product.calibration
    height, width = product.shape
    frame = product.frame
    found = {
        "fitted to": f"{len(origin.images)} good images, {origin.fitted}",
        "with": f"{origin.source}, bayfed {origin.version}",
        "backbone": f"{backbone.name}, weights {(backbone.sha256 or 'none')[:12]}",
        "input": f"{width} x {height} pixels",
        "scores of the good images, each by the others": _extent(calibration.own.tolist()),
        "threshold": "none"
        if threshold is None
        else f"{threshold.value:.3f} nats per dimension ({threshold.kind})",
        "false alarms": "no threshold, no promise" if threshold is None else threshold.promise,
        "file": f"{size / 1000:.0f} kB beside the backbone",
    }
    if frame.roi or frame.tiles > 1:
        part = "the whole image" if frame.roi is None else f"region {','.join(map(str, frame.roi))}"
        found["inspected"] = f"{part} in {frame.tiles} x {frame.tiles} tiles"
    if origin.updated:
        found["updated"] = origin.updated
    if len(calibration.normals):
        found["calibrated by"] = f"{len(calibration.normals)} good images beside the support"
    escapes = calibration.escapes(threshold) if threshold else None
    if escapes is not None:
        found["escapes"] = (
            f"{percent(escapes.mean)} of {escapes.n} known defects "
            f"[{percent(escapes.low)}, {percent(escapes.high)}]"
        )
    return found


def _extent(scores: list[float]) -> str:
    return f"{min(scores):.3f} to {max(scores):.3f}" if scores else "none"
