"""A detector fitted to one product: what it says of an image, as a file, and how it is kept."""

from bayfed.inference.frame import Box, Frame
from bayfed.inference.inspection import Decision, Inspection, Region
from bayfed.product.detector import Detector
from bayfed.product.source import Source, from_backbone, from_run
from bayfed.product.thresholds import Kind

__all__ = [
    "Box",
    "Decision",
    "Detector",
    "Frame",
    "Inspection",
    "Kind",
    "Region",
    "Source",
    "from_backbone",
    "from_run",
]
