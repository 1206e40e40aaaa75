"""Wall time to equal accuracy where one plant is ten times slower than the others.

    python -m experiments.benchmarks.stragglers --data DIR --weights FILE --out DIR

Three ways to deal with it: every round waits; a round ends at its deadline and takes what comes
late in the round in which it comes; a round ends at its deadline and drops it. The clock is that of
the federation: a batch of episodes takes a second, at the slow plant ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from flwr.app import Message

from bayfed.config import load_experiment
from clients.app import app
from clients.partition import client_specs
from experiments.benchmarks.kept import kept_run
from experiments.benchmarks.measure import print_machine, print_table, wide_console
from experiments.delayed import DelayedGrid
from experiments.inprocess import flower_identity
from experiments.options import Overrides
from experiments.resolve import find
from server import history
from server.app import serve
from server.job import Job
from strategies.wire import CONFIG

WAYS = {
    "waits": ("federation.timeout=1000",),
    "buffers": ("federation.timeout=1000", "federation.deadline=1.5"),
    "drops": ("federation.timeout=1.5", "federation.deadline=1.5"),
}
SECONDS, SLOWER = 1.0, 10.0
LONGER = 4
"""Times as many rounds where none waits for the slow plant: about as many seconds."""


def main(
    data: Annotated[Path, typer.Option(help="Folder of the sites.")],
    weights: Annotated[Path, typer.Option(help="Weights of the backbone.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs; those that are done are kept.")],
    slow: Annotated[str, typer.Option(help="The site of the slow plant.")] = "ac_piston",
    experiment: Annotated[str, typer.Option(help="YAML file or bundled name.")] = "sites",
    every: Annotated[int, typer.Option(help="Rounds between two evaluations.")] = 2,
    settings: Overrides = None,
) -> None:
    """Measure the three ways."""
    console = wide_console()
    print_machine(console)
    common = [
        f"data.root={data}", f"backbone.weights={weights}", "federation.quorum=0.5",
        f"evaluation.every={every}", "evaluation.heatmaps=0", *(settings or []),
    ]  # fmt: skip
    curves = {way: _curve(_run(experiment, common, out, way, slow)) for way in WAYS}
    goal = curves["waits"][-1][1]
    rows = [_cells(way, curve, goal) for way, curve in curves.items()]
    headings = ("the round", "s in all", "AUROC", f"s to {goal:.4f}", f"from {slow}")
    print_table(console, f"{slow} is {SLOWER:g} times slower", headings, rows)
    for way, curve in curves.items():
        points = ", ".join(f"{seconds:.0f} s {auroc:.4f}" for seconds, auroc, _ in curve)
        console.print(f"{way}: {points}", highlight=False)


def _run(
    experiment: str, common: Sequence[str], out: Path, way: str, slow: str
) -> list[dict[str, Any]]:
    words = [*common, *WAYS[way]]
    if way != "waits":
        settings = load_experiment(find(experiment, Path.cwd()), words)
        rounds, every = settings.federation.rounds, settings.evaluation.every
        words += [f"federation.rounds={LONGER * rounds}", f"evaluation.every={LONGER * every}"]
    job = kept_run(experiment, words, out / way, partial(_play, slow=slow))
    return [{**line, "slow": slow} for line in history.read(job.history)]


def _play(job: Job, slow: str) -> None:
    problem: Any = import_module("clients.factory")
    names = [spec.name for spec in client_specs(job.experiment)]

    def delay(message: Message) -> float:
        # Evaluation is for the reader of this table, and takes no time.
        if message.metadata.message_type != "train":
            return 0.0
        client: Any = message.content.config_records[CONFIG]["client"]
        return SECONDS * (SLOWER if names[client] == slow else 1.0)

    with flower_identity():
        serve(DelayedGrid(app, len(names), delay), job, problem)


def _curve(lines: list[dict[str, Any]]) -> list[tuple[float, float, int]]:
    """Return, of each evaluation, the seconds so far, the AUROC, and what the slow plant gave."""
    seconds, updates, points = 0.0, 0, []
    for line in lines:
        seconds += line["seconds"] if line["round"] else 0.0
        names = [client["name"] for client in line["clients"]] + list(line["late"])
        updates += line["slow"] in names
        if line["mean_image_auroc"] is not None:
            points.append((seconds, line["mean_image_auroc"], updates))
    return points


def _cells(way: str, curve: list[tuple[float, float, int]], goal: float) -> tuple[str, ...]:
    last, auroc, updates = curve[-1]
    reached = next(
        (f"{seconds:.0f}" for seconds, found, _ in curve if found >= goal), "not reached"
    )
    return way, f"{last:.0f}", f"{auroc:.4f}", reached, f"{updates} updates"


if __name__ == "__main__":
    typer.run(main)
