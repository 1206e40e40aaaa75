"""64 clients at once on ``/score``: errors, lost records, latency and images a second.

    python -m experiments.benchmarks.serving product.bayfed --images DIR

The service runs as a process of its own on a fresh history and is killed at the end, so that
records that were answered but not on the disk would be found missing.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from bayfed.errors import DataError
from bayfed.inference.pictures import files_of
from experiments.benchmarks.measure import goal, print_machine, print_table, wide_console

_COMMAND = "from bayfed.cli.main import main; main()"
_PATIENCE = 600
"""Seconds a client waits for an answer: on a busy machine it is late, not lost."""
_AT_MOST = 200
"""Images that are sent in turn."""


@dataclass
class Client:
    """What one client has seen."""

    seconds: list[float] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


@contextmanager
def service(product: Path, data: Path, extra: Sequence[str]) -> Iterator[int]:
    """Start the service, yield its port, and kill it."""
    command = [sys.executable, "-c", _COMMAND, "serve", str(product), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--data", str(data), *extra], stdout=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if "http://" not in line:
            raise typer.Exit(process.wait() or 1)
        yield int(line.rstrip().rstrip("/").rpartition(":")[2])
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def post(port: int, images: Sequence[bytes], first: int, until: float) -> Client:
    """Send images one after the other, as a camera does, until the time is over."""
    seen, number = Client(), first
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)) as connection:
        while time.perf_counter() < until:
            started = time.perf_counter()
            try:
                body = images[number % len(images)]
                connection.request("POST", "/score", body, {"Content-Type": "image/png"})
                answer = connection.getresponse()
                content = answer.read()
            except OSError as error:
                seen.errors[type(error).__name__] += 1
                connection.close()
                continue
            number += 1
            if answer.status == 200:
                seen.seconds.append(time.perf_counter() - started)
                seen.items += [item["id"] for item in json.loads(content)["items"]]
            else:
                seen.errors[str(answer.status)] += 1
                time.sleep(float(answer.getheader("Retry-After") or 0))
    return seen


def main(
    product: Annotated[Path, typer.Argument(help="Product file.")],
    images: Annotated[Path, typer.Option(help="Folder with images of the product.")],
    weights: Annotated[Path | None, typer.Option(help="Weights of the backbone.")] = None,
    clients: Annotated[int, typer.Option(help="Clients at once.")] = 64,
    seconds: Annotated[float, typer.Option(help="How long they send.")] = 60.0,
) -> None:
    """Load a service with many clients and look for what got lost."""
    console = wide_console()
    print_machine(console)
    try:
        paths = files_of([images], below=True)
    except DataError as error:
        console.print(f"error: {error}", markup=False)
        raise typer.Exit(2) from None
    pictures = [path.read_bytes() for path in paths[:_AT_MOST]]
    extra = () if weights is None else ("--weights", str(weights))
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        with service(product, data, extra) as port, ThreadPoolExecutor(clients) as pool:
            post(port, pictures, 0, time.perf_counter() + 1.0)  # the first image warms it up
            started = time.perf_counter()
            work = [
                pool.submit(post, port, pictures, number, started + seconds)
                for number in range(clients)
            ]
            seen = [one.result() for one in work]
            elapsed = time.perf_counter() - started
            load = " ".join(f"{value:.1f}" for value in os.getloadavg())
        kept = recorded(data / "history.sqlite")
    times = sorted(second for one in seen for second in one.seconds)
    accepted = {item for one in seen for item in one.items}
    errors = sum((one.errors for one in seen), Counter[str]())
    if len(times) < 2:
        console.print(f"error: no image was scored: {dict(errors)}", markup=False)
        raise typer.Exit(1)
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    rows = [
        ("images scored", str(len(times))),
        ("images a second", f"{len(times) / elapsed:.1f}"),
        ("p50, s", f"{cuts[49]:.3f}"),
        ("p99, s", f"{cuts[98]:.3f}"),
        ("slowest, s", f"{times[-1]:.3f}"),
        ("load while measuring", load),
    ]
    title = f"{clients} clients for {elapsed:.0f} s, {len(pictures)} images in turn"
    print_table(console, title, ("", "value"), rows)
    console.print(f"errors: {goal(errors.total(), 0, '')} {dict(errors) or ''}", markup=False)
    lost = len(accepted - kept)
    console.print(f"lost records after kill -9: {goal(lost, 0, '')}", markup=False)
    raise typer.Exit(int(lost > 0 or errors.total() > 0))


def recorded(history: Path) -> set[int]:
    """Return the ids of all items of a history."""
    with closing(sqlite3.connect(history)) as connection:
        return {row[0] for row in connection.execute("SELECT id FROM items")}


if __name__ == "__main__":
    typer.run(main)
