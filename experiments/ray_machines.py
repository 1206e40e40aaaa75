"""Print the CPUs and GPUs of each machine of a running Ray cluster, as JSON."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import ray


def main() -> None:
    """Ask the cluster that ``RAY_ADDRESS`` names."""
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        sys.exit(str(error))
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    living = [node["Resources"] for node in nodes if node["Alive"]]
    machines = [[r.get("CPU", 0.0), r.get("GPU", 0.0)] for r in living]
    sys.stdout.write(json.dumps(machines) + "\n")


if __name__ == "__main__":
    main()
