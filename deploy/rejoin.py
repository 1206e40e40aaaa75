"""Gives back the place that a killed SuperNode still holds, so that the next one is let in.

The SuperLink takes a node for connected until two of its heartbeats are missing, nearly a minute,
and refuses a second one with the same key. A node knows its number from its own log, and may sign
off under it with its own key.
"""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy.keys import read_private
from deploy.layout import NodeFolder
from experiments.processes import ROOT

_NUMBER = re.compile(rb"SuperNode ID: (\d+)")
_READ = 32 << 20
_PATIENCE = 20.0


def number(folder: NodeFolder, start: int = 0) -> int | None:
    """Return the number that the node last had, ``None`` if it was never connected.

    Args:
        folder: The node's.
        start: From which byte of its log on.
    """
    log = folder.log("supernode")
    return _last(log, start) or (None if start else _last(log.with_suffix(".log.1"), 0))


def _last(log: Path, start: int) -> int | None:
    try:
        with log.open("rb") as file:
            file.seek(max(start, file.seek(0, 2) - _READ))
            found = _NUMBER.findall(file.read())
    except OSError:
        return None
    return int(found[-1]) if found else None


def leave(folder: NodeFolder) -> None:
    """Sign off where a killed node is still taken for connected; silent where nothing can be done.

    In a process of its own, for who keeps programs running need not hold Flower's libraries.
    """
    if number(folder) is None:
        return
    command = [sys.executable, "-m", "deploy.rejoin", str(folder.root)]
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=_PATIENCE)


def main() -> None:
    """Sign off the node in a folder."""
    import httpx
    from flwr.proto.fleet_pb2 import DeactivateNodeRequest
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

    folder = NodeFolder(Path(sys.argv[1]))
    key, last = read_private(folder.key), number(folder)
    says: list[Any] = [
        RuntimeVersionHttpInterceptor(component_name="SuperNode"),
        NodeAuthHttpInterceptor(key, key.public_key()),
    ]
    server, authority = folder.settings().server, str(folder.authority)
    with (
        suppress(httpx.HTTPError),
        FleetHttpClient.from_server_address(server, False, authority, says) as client,
    ):
        client.DeactivateNode(DeactivateNodeRequest(node_id=last or 0))


if __name__ == "__main__":
    main()
