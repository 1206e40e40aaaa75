"""What an evaluation gives."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bayfed.evaluation.table import ResultRow
from server.exchange import Replies


@dataclass
class Measured:
    """An evaluation: its calibration, its rows and what it cost."""

    calibration: dict[str, Tensor]
    rows: list[ResultRow]
    exchanges: list[Replies]
