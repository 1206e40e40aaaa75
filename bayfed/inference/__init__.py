"""What looks at pictures where nothing is trained: no module of this room needs torch."""

from bayfed.inference.exported import Exported
from bayfed.inference.inspection import Decision, Inspection, Region

__all__ = ["Decision", "Exported", "Inspection", "Region"]
