"""How many clients compute at the same time, by which a round's overhead is reckoned."""

from __future__ import annotations

import os
import sys

from bayfed.config import Federation
from server.exchange import Exchange


def workers(exchange: Exchange, settings: Federation, members: int) -> int:
    """Return the processes that share the clients of a round between them."""
    if not exchange.simulated:
        return members
    if settings.backend != "ray":
        return 1
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():  # a cluster has as many as it has
        return int(ray.cluster_resources().get("CPU", 1)) or 1
    return settings.workers or os.cpu_count() or 1
