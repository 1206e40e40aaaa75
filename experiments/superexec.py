"""A SuperExec whose client processes start warm: forked from one that holds the libraries.

Flower's own starts a command for every message, which imports Flower and PyTorch before it can
answer. Here a fork server has done so once. A message still has a process of its own, and the
app's code still comes from the bundle of its run. For the SuperNodes of this machine:

    flower-supernode --isolation process --port 9094 ...
    python -m experiments.superexec 127.0.0.1:9094
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from typing import NoReturn

import httpx
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import run_clientapp

LIBRARIES = (run_clientapp.__module__, "torch", "scipy.ndimage", "sklearn.metrics")
"""What every client needs; never the app itself, which differs from run to run."""


def serve(addresses: Sequence[str], libraries: Sequence[str], interval: float) -> NoReturn:
    """Start a process for every message that the SuperNodes at ``addresses`` have received.

    Args:
        addresses: Of the nodes' Runtime APIs, on this machine; one that is away is asked again.
        libraries: Loaded beforehand, besides ``LIBRARIES``.
        interval: Seconds between two questions.
    """
    context = warm_context([*LIBRARIES, *libraries])
    nodes = {address: _connect(address) for address in addresses}
    while True:
        for address, node in nodes.items():
            with suppress(httpx.TransportError):
                while token := _next_token(node):
                    launch(context, address, token)
        time.sleep(interval)


def warm_context(libraries: list[str]) -> ForkServerContext:
    """Return the context of a fork server that has begun to load ``libraries``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(libraries)
    ensure_running()
    return context


def launch(context: ForkServerContext, address: str, token: str) -> None:
    """Start the process of one message; it ends when this one does."""
    arguments = {
        "runtime_api_address": address,
        "token": token,
        "insecure": True,
        "parent_pid": os.getpid(),
    }
    context.Process(target=run_clientapp, kwargs=arguments, daemon=True).start()


def _connect(address: str) -> RuntimeHttpClient:
    says_version = RuntimeVersionHttpInterceptor(component_name="SuperExec")
    return RuntimeHttpClient.from_server_address(address, True, None, [says_version])


def _next_token(node: RuntimeHttpClient) -> str:
    """Return what entitles a process to the next message, empty if there is none."""
    clients = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
    return str(node.AcquireTask(clients).token)


def main(arguments: list[str] | None = None) -> None:
    """Run until interrupted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("address", nargs="+", help="Runtime API of a SuperNode: host:port")
    parser.add_argument("--load", action="append", default=[], help="a further library: timm")
    parser.add_argument("--interval", type=float, default=0.2, help="seconds")
    options = parser.parse_args(arguments)
    with suppress(KeyboardInterrupt):
        serve(options.address, options.load, options.interval)


if __name__ == "__main__":
    main()
