"""What Flower and Ray cost a round, at the payload of the eleven real sites.

The same job runs over Ray and in one process. Its synthetic factories compute little, so the
share of overhead is the worst case; the seconds are what every job pays.

    python -m experiments.benchmarks.overhead --rounds 20
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from bayfed.config import Experiment, parse_experiment
from clients.partition import client_specs
from experiments.benchmarks.measure import Sample, goal, print_machine, print_table, wide_console
from experiments.run import start
from server import history
from server.job import Job

GOAL_SECONDS, GOAL_SHARE = 0.5, 0.15
WARMUP = 3
"""Rounds until every process has opened its factories."""


def main(
    clients: Annotated[int, typer.Option(help="Factories.")] = 11,
    rounds: Annotated[int, typer.Option(help="Rounds measured, after the warm-up.")] = 15,
    episodes: Annotated[int, typer.Option(help="Episodes a client a round.")] = 10,
    width: Annotated[int, typer.Option(help="Channels of Conv-4; 28 gives 73 KB.")] = 28,
    backends: Annotated[str, typer.Option(help="Separated by commas.")] = "ray,inprocess",
) -> None:
    """Measure the overhead of a round."""
    console = wide_console()
    print_machine(console)
    rows = []
    for backend in backends.split(","):
        settings = experiment(backend, clients, rounds, episodes, width)
        lines = measure(settings)
        rows.append((backend, *cells(lines, clients)))
        console.print(f"{backend}: {verdict(lines)}")
    headings = ("backend", "round s", "compute s", "overhead s", "server s", "share", "KB up")
    print_table(console, f"{clients} clients, {rounds} rounds", headings, rows)


def experiment(
    backend: str, clients: int, rounds: int, episodes: int, width: int = 28
) -> Experiment:
    """Return a job of small synthetic factories, one client each."""
    settings: dict[str, Any] = {
        "name": "overhead",
        "device": "cpu",
        "data": {
            "synthetic": {
                "products": clients, "size": 32, "train_good": 16, "test_good": 4,
                "per_defect": 2, "kinds": ["hole", "stain"],
            },
            "pasted": {"per_site": 8, "kinds": ["hole", "stain"]},
        },
        "backbone": {"image_size": 32, "grid": 4, "width": width},
        "method": {"inner": {"steps": 1}},
        "federation": {"backend": backend, "rounds": rounds + WARMUP + 1, "episodes": episodes},
        "evaluation": {"draws": 1, "heatmaps": 0},
    }  # fmt: skip
    return parse_experiment(settings)


def measure(settings: Experiment) -> list[dict[str, Any]]:
    """Run the job in a temporary folder and return the lines of its measured rounds.

    Left out are the control, the warm-up and the last round, which is evaluated too.
    """
    with tempfile.TemporaryDirectory(prefix="bayfed-benchmark-") as folder:
        store = settings.store.model_copy(update={"directory": Path(folder) / "store"})
        job = Job(settings.model_copy(update={"store": store}), Path(folder) / "run")
        start(job, len(client_specs(settings)))
        lines = history.read(job.history)
    return [line for line in lines if WARMUP < line["round"] < settings.federation.rounds]


def cells(lines: list[dict[str, Any]], clients: int) -> list[str]:
    """Return the columns of the table."""
    share = Sample(tuple(100 * line["seconds_overhead"] / line["seconds"] for line in lines))
    payload = max(line["bytes_up"] for line in lines) / clients / 1000
    seconds = [column(lines, f"seconds{key}").text(2) for key in ("", "_compute", "_overhead")]
    rest = Sample(
        tuple(
            line["seconds"] - line["seconds_compute"] - line["seconds_overhead"] for line in lines
        )
    )
    return [*seconds, f"{rest.median:.2f}", f"{share.median:.0f} %", f"{payload:.0f}"]


def column(lines: list[dict[str, Any]], key: str) -> Sample:
    """Return one number of each round."""
    return Sample(tuple(float(line[key]) for line in lines))


def verdict(lines: list[dict[str, Any]]) -> str:
    """Return the median overhead beside the larger of the two limits."""
    limit = max(GOAL_SECONDS, GOAL_SHARE * column(lines, "seconds").median)
    overhead = column(lines, "seconds_overhead").median
    return f"overhead {goal(overhead, round(limit, 2), 's', digits=2)}"


if __name__ == "__main__":
    typer.run(main)
