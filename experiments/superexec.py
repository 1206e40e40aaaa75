"""A SuperExec whose client processes start warm: forked from one that holds the libraries.

Flower's own starts a command for every message, which imports Flower and PyTorch before it can
answer. Here a fork server has done so once. A message still has a process of its own, and the
app's code still comes from the bundle of its run. For the SuperNodes of this machine:

    flower-supernode --isolation process --port 9094 ...
    python -m experiments.superexec 127.0.0.1:9094

With ``--trust`` a process that is handed another app than a trusted one imports nothing of it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any, NoReturn

import httpx
from flwr.common.config import get_project_dir
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import (
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import run_clientapp

from experiments.bundle import check, is_installed

FLOWER = run_clientapp.__module__
LIBRARIES = (FLOWER, "torch", "scipy.ndimage", "sklearn.metrics")
"""What every client needs; never the app itself, which differs from run to run."""


WAIT, LONGEST_WAIT = 0.02, 1.0
"""Seconds between two looks for what a message holds."""
_SIGNED = ("/flwr.proto.Runtime/AcquireTask",)


@dataclass(frozen=True)
class Limits:
    """What a process of a message is bound to.

    Attributes:
        trusted: Hashes of the apps that may run, see ``experiments.bundle``; any if ``None``.
        memory: Bytes of data it may hold besides the libraries; no bound if ``None``.
    """

    trusted: frozenset[str] | None = None
    memory: int | None = None


def serve(
    addresses: Sequence[str],
    libraries: Sequence[str],
    interval: float,
    limits: Limits = Limits(),
    secret: bytes | None = None,
) -> NoReturn:
    """Start a process for every message that the SuperNodes at ``addresses`` have received.

    Args:
        addresses: Of the nodes' Runtime APIs, on this machine; one that is away is asked again.
        libraries: Loaded beforehand, besides ``LIBRARIES``.
        interval: Seconds between two questions.
        limits: Of every process.
        secret: What the nodes were given as ``--superexec-auth-secret-file``.
    """
    context = warm_context([*LIBRARIES, *libraries])
    nodes = {address: _connect(address, secret) for address in addresses}
    while True:
        for address, node in nodes.items():
            with suppress(httpx.TransportError):
                while token := _next_token(node):
                    launch(context, address, token, limits)
        time.sleep(interval)


def warm_context(libraries: list[str]) -> ForkServerContext:
    """Return the context of a fork server that has begun to load ``libraries``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(libraries)
    ensure_running()
    return context


def launch(context: ForkServerContext, address: str, token: str, limits: Limits) -> None:
    """Start the process of one message; it ends when this one does."""
    arguments = {
        "runtime_api_address": address,
        "token": token,
        "insecure": True,
        "parent_pid": os.getpid(),
    }
    context.Process(target=run_client, args=(limits, arguments), daemon=True).start()


def run_client(limits: Limits, arguments: dict[str, Any]) -> None:
    """Answer one message within ``limits``."""
    if limits.memory is not None:
        most = _held() + limits.memory
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    flower = sys.modules[FLOWER]
    hasten(flower)
    if limits.trusted is not None:
        refuse_others(flower, limits.trusted)
    run_clientapp(**arguments)


def _held() -> int:
    """Return the bytes of data that this process holds, as the kernel counts them for a limit."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


def hasten(flower: Any) -> None:
    """Let Flower's client process look for its message soon again.

    A SuperNode says that there is one before it has fetched what the message holds; Flower's own
    process then waits for a second.
    """
    flower.pull_and_inflate_object_from_tree = partial(
        flower.pull_and_inflate_object_from_tree, initial_backoff=WAIT, backoff_cap=LONGEST_WAIT
    )


def refuse_others(flower: Any, trusted: Collection[str]) -> None:
    """Let Flower's client process install none but ``trusted`` apps.

    What is raised where Flower installs an app becomes the node's reply, so that the server
    reads why; nothing of the app has been unpacked or imported by then.
    """
    pull, install = flower.pull_task_input, flower.install_from_fab
    stated: list[tuple[str, str, str]] = []

    def pull_and_note(client: Any) -> Any:
        message, context, run, fab = pull(client)
        stated.append((run.fab_id, run.fab_version, fab.hash_str))
        return message, context, run, fab

    def check_and_install(bundle: bytes, **options: Any) -> Any:
        check(bundle, stated[-1], trusted)
        folder = get_project_dir(*stated[-1])
        if is_installed(bundle, folder):
            return folder
        shutil.rmtree(folder, ignore_errors=True)  # else Flower leaves it as it is
        return install(bundle, **options)

    flower.pull_task_input, flower.install_from_fab = pull_and_note, check_and_install


def _connect(address: str, secret: bytes | None) -> RuntimeHttpClient:
    says: list[Any] = [RuntimeVersionHttpInterceptor(component_name="SuperExec")]
    if secret is not None:
        says.append(SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=_SIGNED))
    return RuntimeHttpClient.from_server_address(address, True, None, says)


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
    parser.add_argument("--trust", action="append", metavar="HASH", help="an app that may run")
    parser.add_argument("--memory", type=int, metavar="BYTES", help="of data a process may hold")
    parser.add_argument("--secret", type=Path, metavar="FILE", help="shared with the nodes")
    options = parser.parse_args(arguments)
    trusted = None if options.trust is None else frozenset(options.trust)
    secret = None if options.secret is None else options.secret.read_bytes()
    limits = Limits(trusted, options.memory)
    with suppress(KeyboardInterrupt):
        serve(options.address, options.load, options.interval, limits, secret)


if __name__ == "__main__":
    main()
