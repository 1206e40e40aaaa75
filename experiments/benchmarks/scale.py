"""Federations of many factories: seconds, memory and bytes of a round, and where the time goes.

    python -m experiments.benchmarks.scale --clients 10,50,200,1000 --backend inprocess,batched

Synthetic factories at the patch grain. Of many only some train in a round, so that its work stays
the same while what is kept grows. Each federation runs in processes of its own, whose memory is
added up. Nobody is evaluated, but for the first and the last round over Ray, which are left out.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bayfed.config import Experiment, dump_experiment, load_experiment, parse_experiment
from bayfed.errors import BayfedError
from clients.partition import client_specs
from experiments.benchmarks.measure import (
    Sample,
    goal,
    print_machine,
    print_table,
)
from experiments.benchmarks.memory import watch
from experiments.benchmarks.overhead import column
from experiments.options import Overrides
from experiments.run import start
from server import history
from server.job import Job

GOAL_CLIENTS, GOAL_SECONDS = 1000, 15.0
WARMUP, WIDTH = 2, 140
HEADINGS = (
    "clients", "backend", "open s", "round s", "compute", "overhead", "server", "updates/s", "MB",
    "KB up", "KB down",
)  # fmt: skip


def main(
    clients: Annotated[
        str, typer.Option(help="Factories, separated by commas.")
    ] = "10,50,200,1000",
    backend: Annotated[str, typer.Option(help="Separated by commas.")] = "inprocess,batched",
    sampled: Annotated[int, typer.Option(help="Clients that train in a round.")] = 100,
    rounds: Annotated[int, typer.Option(help="Rounds measured, after the warm-up.")] = 8,
    episodes: Annotated[int, typer.Option(help="Episodes a client a round.")] = 4,
    width: Annotated[int, typer.Option(help="Channels of Conv-4; 28 gives 73 KB.")] = 28,
    settings: Overrides = None,
    store: Annotated[Path | None, typer.Option(help="Of features; a new one if not given.")] = None,
    inside: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure federations of several sizes."""
    if inside is not None:
        asked = load_experiment(inside / "experiment.yaml", settings or [])
        start(Job(asked, inside / "run", measures=False), len(client_specs(asked)))
        return
    console = Console(width=WIDTH)
    print_machine(console)
    rows, last = [], None
    for number in map(int, clients.split(",")):
        for name in backend.split(","):
            asked = experiment(name, number, min(sampled, number), rounds, episodes, width)
            found = measure(asked, store, settings or [])
            rows.append((str(number), name, *cells(found)))
            console.print(f"{number} over {name}: {', '.join(cells(found))}", highlight=False)
            last = (number, column(found.lines, "seconds").median)
    print_table(console, f"{sampled} clients a round, {episodes} episodes each", HEADINGS, rows)
    if last is not None and last[0] >= GOAL_CLIENTS:
        console.print(f"a round of {last[0]} clients: {goal(last[1], GOAL_SECONDS, 's', digits=1)}")


def experiment(
    backend: str, clients: int, sampled: int, rounds: int, episodes: int, width: int
) -> Experiment:
    """Return a job of small synthetic factories, ``sampled`` of which train in a round."""
    kinds = ["hole", "stain"]
    tree: dict[str, Any] = {
        "name": "scale",
        "device": "cpu",
        "data": {
            "synthetic": {
                "products": clients, "size": 32, "train_good": 16, "test_good": 4,
                "per_defect": 2, "kinds": kinds,
            },
            "pasted": {"per_site": 8, "kinds": kinds},
        },
        "backbone": {"image_size": 32, "grid": 4, "width": width},
        "method": {"inner": {"steps": 1}},
        "federation": {
            "backend": backend, "rounds": rounds + WARMUP + 1, "episodes": episodes,
            "fraction": sampled / clients, "timeout": 3600,
        },
        "evaluation": {"draws": 1, "heatmaps": 0},
    }  # fmt: skip
    return parse_experiment(tree)


@dataclass
class Found:
    """What a federation took.

    Attributes:
        lines: Of the measured rounds.
        peak: Of its memory, in bytes.
        first: Seconds until all factories were open and the first round began.
    """

    lines: list[dict[str, Any]]
    peak: int
    first: float


@dataclass
class _Start:
    """Waits for the line of round 0."""

    file: Path
    seconds: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        if not self.seconds and self.file.exists() and self.file.stat().st_size:
            self.seconds.append(seconds)


def measure(asked: Experiment, store: Path | None, settings: Sequence[str]) -> Found:
    """Run ``asked`` in a process of its own.

    Raises:
        BayfedError: it failed.
    """
    with tempfile.TemporaryDirectory(prefix="bayfed-benchmark-") as name:
        folder = Path(name)
        (folder / "experiment.yaml").write_text(dump_experiment(asked), encoding="utf-8")
        job = Job(asked, folder / "run")
        begun = _Start(job.history)
        extra = [f"--set={text}" for text in (f"store.directory={store or folder}", *settings)]
        module = ("-m", "experiments.benchmarks.scale")
        command = [sys.executable, *module, "--inside", str(folder), *extra]
        watched = watch(command, folder / "log", 1.0, begun)
        if watched.code:
            said = (folder / "log").read_text(encoding="utf-8", errors="replace").strip()
            raise BayfedError(f"the run failed: {said.splitlines()[-1] if said else 'no word'}")
        lines = history.read(job.history)
    kept = [line for line in lines if WARMUP < line["round"] < asked.federation.rounds]
    return Found(kept, watched.peak_pss, begun.seconds[0] if begun.seconds else watched.seconds)


def cells(found: Found) -> list[str]:
    """Return the columns of the table."""
    lines = found.lines
    rest = Sample(
        tuple(
            line["seconds"] - line["seconds_compute"] - line["seconds_overhead"] for line in lines
        )
    )
    rate = Sample(tuple(line["replies"] / line["seconds"] for line in lines))
    return [
        f"{found.first:.0f}",
        column(lines, "seconds").text(2),
        *(f"{column(lines, f'seconds_{part}').median:.2f}" for part in ("compute", "overhead")),
        f"{rest.median:.2f}",
        rate.text(1),
        f"{found.peak / 1e6:.0f}",
        *(f"{column(lines, f'bytes_{way}').median / 1e3:.0f}" for way in ("up", "down")),
    ]


if __name__ == "__main__":
    typer.run(main)
