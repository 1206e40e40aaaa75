"""The line that the history holds about a round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.exchange import Replies
from strategies.wire import WEIGHT, metrics_of


def line_of(
    number: int,
    trained: Replies | None,
    exchanges: Sequence[Replies],
    workers: int,
) -> dict[str, Any]:
    """Return what a round says of itself.

    loss is the mean over clients weighted by episodes, means are others where no client's own
    number is known; bytes are those of the tensors of
    all exchanges; with s_c the seconds that client c computed,

    seconds_compute = sum over exchanges of max(max_c s_c, sum_c s_c / workers)

    is the least that ``workers`` processes can do it in, and seconds_overhead the rest of
    the exchanges' wall time.
    """
    good = {} if trained is None else trained.good
    ideal = sum(_ideal(exchange, workers) for exchange in exchanges)
    computed = [exchange.compute().values() for exchange in exchanges]
    return {
        "round": number,
        "loss": _mean_loss(trained),
        "means": {} if trained is None else trained.means,
        "clients": [_client(member.name, metrics_of(reply)) for member, reply in good.items()],
        "sampled": len(good) + (len(trained.refused) if trained else 0),
        "replies": len(good),
        "late": {} if trained is None else {m.name: born for m, (born, _) in trained.late.items()},
        "refused": _refused(exchanges),
        "bytes_up": sum(exchange.bytes_up for exchange in exchanges),
        "bytes_down": sum(exchange.bytes_down for exchange in exchanges),
        "training_bytes": 0 if trained is None else trained.bytes_up + trained.bytes_down,
        "training_seconds": 0.0 if trained is None else trained.seconds,
        "seconds_compute": ideal,
        "seconds_compute_max": max((max(values, default=0.0) for values in computed), default=0.0),
        "seconds_compute_sum": sum(sum(values) for values in computed),
        "seconds_overhead": max(0.0, sum(e.seconds for e in exchanges) - ideal),
    }


def _mean_loss(trained: Replies | None) -> float | None:
    if trained is None or not trained.good:
        return None
    if trained.means:
        return trained.means.get("loss")
    reports = [metrics_of(reply) for reply in trained.good.values()]
    weight = sum(report[WEIGHT] for report in reports)
    return sum(report[WEIGHT] * report["loss"] for report in reports) / weight


def _client(name: str, metrics: dict[str, float]) -> dict[str, str | float]:
    renamed = {("episodes" if key == WEIGHT else key): value for key, value in metrics.items()}
    return {"name": name, **renamed}


def _refused(exchanges: Sequence[Replies]) -> dict[str, str]:
    said: dict[str, list[str]] = {}
    for exchange in exchanges:
        for name, why in exchange.refused.items():
            said.setdefault(name, []).append(f"{exchange.phase}: {why}")
    return {name: "; ".join(reasons) for name, reasons in said.items()}


def _ideal(exchange: Replies, workers: int) -> float:
    seconds = exchange.compute().values()
    return max(max(seconds, default=0.0), sum(seconds) / workers)
