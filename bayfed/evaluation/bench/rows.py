"""Rows of results from the measurements of the sites: the pooled law, then the p-values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bayfed.evaluation.bench.measure import Drawn
from bayfed.evaluation.calibrate import added, null_sums, pooled_p_values, spread_sums
from bayfed.evaluation.site import calibration_columns
from bayfed.evaluation.table import ResultRow

Measured = Sequence[Drawn]
"""The draws of one site."""


def pooled_law(sites: Sequence[Measured]) -> dict[str, Tensor]:
    """Return the calibration that the ``sites`` would have pooled, {} where none scored normals.

    The sums are those of :func:`bayfed.evaluation.calibrate.calibrate_site`, in its order.
    """
    known = [site for site in sites if any(drawn.rest.size for drawn in site)]
    if not known:
        return {}
    owns = [[torch.from_numpy(drawn.own) for drawn in site] for site in known]
    rests = [[torch.from_numpy(drawn.rest) for drawn in site] for site in known]
    spreads = _total([spread_sums(own) for own in owns])
    nulls = [null_sums(rest, own, spreads) for rest, own in zip(rests, owns, strict=True)]
    return spreads | _total(nulls)


def _total(sites: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    totals: dict[str, Tensor] = {}
    for sums in sites:
        totals = added(totals, sums)
    return totals


def rows_of(
    context: Mapping[str, Any],
    scored: Sequence[Measured],
    calibrating: Sequence[Measured],
    fpr: float,
) -> list[ResultRow]:
    """Return a row for each scored site and draw.

    Args:
        context: The columns that the rows share.
        scored: Sites whose test images were scored.
        calibrating: Sites whose normals make the pooled null law.
        fpr: The stated false-positive rate.
    """
    pooled = pooled_law(calibrating)
    return [
        ResultRow(**{**context, **drawn.columns, **_calibration(drawn, pooled, fpr)})
        for site in scored
        for drawn in site
    ]


def _calibration(drawn: Drawn, pooled: Mapping[str, Tensor], fpr: float) -> dict[str, Any]:
    if drawn.score is None or drawn.defective is None:
        return {}
    scores, own = torch.from_numpy(drawn.score), torch.from_numpy(drawn.own)
    p_value = pooled_p_values(scores, own, pooled)
    if p_value is None and drawn.p_value is not None:
        p_value = torch.from_numpy(drawn.p_value)
    return {} if p_value is None else calibration_columns(p_value, drawn.defective, fpr)
