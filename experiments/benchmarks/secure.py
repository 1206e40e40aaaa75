"""What secure sums cost a round: processor seconds and bytes, with them and without.

    python -m experiments.benchmarks.secure
    python -m experiments.benchmarks.secure --experiment sites --set data.root=DIR \
        --set backbone.weights=FILE

All clients and the server share one process and its clock counts processor seconds, so that other
work on the machine does not count; on machines of their own the clients work side by side. With
`--backend ray` they work on all cores, and the clock on the wall counts.
"""

from __future__ import annotations

import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from bayfed.config import Experiment, load_experiment
from clients.app import app
from clients.partition import client_specs
from experiments.benchmarks.measure import Sample, goal, print_machine, print_table, wide_console
from experiments.benchmarks.overhead import experiment as small
from experiments.inprocess import InProcessGrid, flower_identity
from experiments.options import Overrides
from experiments.resolve import find
from experiments.run import start
from server import history
from server.app import serve
from server.exchange import Clock
from server.job import Job

GOAL_SHARE = 30.0
"""Percent that secure sums may add to a round."""
WIDTH = 40
"""Channels of Conv-4 with 36,000 parameters."""


class Counted(InProcessGrid):
    """Its time is that of the processor."""

    clock = Clock(time.process_time, time.sleep)


def main(
    clients: Annotated[int, typer.Option(help="Factories of the small job.")] = 10,
    rounds: Annotated[int, typer.Option(help="Rounds measured, after the first.")] = 10,
    experiment: Annotated[
        str | None, typer.Option(help="YAML file or bundled name; else a small synthetic job.")
    ] = None,
    settings: Overrides = None,
    clip: Annotated[float, typer.Option(help="federation.secure.clip.")] = 10.0,
    bits: Annotated[int, typer.Option(help="federation.secure.bits.")] = 20,
    backend: Annotated[
        str, typer.Option(help="inprocess: processor seconds; ray: seconds on the wall.")
    ] = "inprocess",
) -> None:
    """Measure a round with secure sums and without."""
    torch.set_num_threads(1)
    console = wide_console()
    print_machine(console)
    ways = {"plain": None, "secure": {"clip": clip, "bits": bits}}
    with tempfile.TemporaryDirectory(prefix="bayfed-benchmark-") as folder:
        job = small("inprocess", clients, rounds, episodes=10, width=WIDTH)
        store = job.store.model_copy(update={"directory": Path(folder)})
        job = job.model_copy(update={"store": store})
        if experiment is not None:
            job = load_experiment(find(experiment, Path.cwd()), settings or [])
        found = {name: measure(job, rounds, hidden, backend) for name, hidden in ways.items()}
    rows = [(name, *cells(lines)) for name, lines in found.items()]
    unit = "s" if backend == "ray" else "processor s"
    headings = ("sums", "clients", f"{unit} a round", "KB up a client", "KB down a client")
    print_table(console, f"{rounds} rounds of {job.name}", headings, rows)
    plain, secure = (seconds(found[name]).median for name in ("plain", "secure"))
    added = goal(100 * (secure / plain - 1), GOAL_SHARE, "%")
    console.print(f"added: {secure - plain:.3f} {unit} a round; {added}")


def measure(
    job: Experiment, rounds: int, secure: dict[str, Any] | None, backend: str = "inprocess"
) -> list[dict[str, Any]]:
    """Run the job in a temporary folder and return the lines of its measured rounds."""
    tree = job.model_dump()
    tree["federation"] |= {"backend": backend, "rounds": rounds + 1, "secure": secure}
    settings = Experiment.model_validate(tree)
    problem: Any = import_module("clients.factory")
    with tempfile.TemporaryDirectory(prefix="bayfed-benchmark-") as folder, flower_identity():
        done = Job(settings, Path(folder) / "run", measures=False)
        clients = len(client_specs(settings))
        if backend == "ray":
            start(done, clients)
        else:
            serve(Counted(app, clients), done, problem)
        return [line for line in history.read(done.history) if line["round"] > 1]


def seconds(lines: list[dict[str, Any]]) -> Sample:
    """Return the seconds of each round."""
    return Sample(tuple(line["seconds"] for line in lines))


def cells(lines: list[dict[str, Any]]) -> list[str]:
    """Return the columns of the table."""
    sent = [
        Sample(tuple(line[f"bytes_{way}"] / line["replies"] / 1000 for line in lines)).median
        for way in ("up", "down")
    ]
    return [str(lines[0]["replies"]), seconds(lines).text(3), *(f"{size:.1f}" for size in sent)]


if __name__ == "__main__":
    typer.run(main)
