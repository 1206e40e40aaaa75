"""The job on the eleven real sites, as a user starts it, with a cold feature store.

python -m experiments.benchmarks.sites_run --data DIR --weights FILE
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bayfed.evaluation.summary import CONTROL, TRAINED, arm_mean, site_table
from bayfed.evaluation.table import read_rows
from experiments.benchmarks.measure import Sample, goal, print_machine, print_table, wide_console
from experiments.benchmarks.memory import Watched, watch
from experiments.options import Overrides
from server import history

GOAL_SECONDS, GOAL_MEGABYTES, GOAL_GIGABYTES = 300.0, 1.0, 4.0
REFERENCE, TOLERANCE = 0.852, 0.015
"""Mean image AUROC of one Gaussian over all support patches on the eleven sites, untrained."""
COMMAND = "import sys; from bayfed.cli.main import main; sys.argv[0] = 'bayfed'; main()"


@dataclass
class Folder:
    """When a folder's first block was begun and when its last one was finished."""

    path: Path
    begun: float | None = None
    finished: float | None = None
    blocks: int = field(default=0)

    def look(self, now: float) -> None:
        """Note the time of a change."""
        if self.begun is None and self.path.exists() and any(self.path.iterdir()):
            self.begun = now
        blocks = len(list(self.path.glob("*/*.npy")))
        if blocks > self.blocks:
            self.blocks, self.finished = blocks, now

    def text(self) -> str:
        """Return how long it took to fill the folder."""
        if self.begun is None or self.finished is None:
            return "no features were stored"
        return (
            f"{self.finished - self.begun:.0f} s ({self.begun:.0f} to {self.finished:.0f} s "
            f"of the run, {self.blocks} blocks)"
        )


def main(
    data: Annotated[Path, typer.Option(help="Folder of the sites.")],
    weights: Annotated[Path | None, typer.Option(help="Weights of the backbone.")] = None,
    experiment: Annotated[str, typer.Option(help="YAML file or bundled name.")] = "sites",
    settings: Overrides = None,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.")] = 1.0,
    keep: Annotated[Path | None, typer.Option(help="Keep the run in this folder.")] = None,
) -> None:
    """Run the job once and print time, payload, memory and quality."""
    console = wide_console()
    print_machine(console)
    with tempfile.TemporaryDirectory(prefix="bayfed-benchmark-") as folder:
        store, run = Folder(Path(folder) / "store"), keep or Path(folder) / "run"
        words = overrides(data, weights, store.path, settings or [])
        command = [sys.executable, "-c", COMMAND, "run", experiment, *words, "--out", str(run)]
        log = Path(folder) / "log"
        watched = watch(command, log, interval, store.look)
        if watched.code:
            console.print(log.read_text(errors="replace"), markup=False, highlight=False)
            raise typer.Exit(watched.code)
        report(console, watched, store, run)


def overrides(data: Path, weights: Path | None, store: Path, more: list[str]) -> list[str]:
    """Return the options of the command; those of the user come last and win."""
    settings = [f"data.root={data.resolve()}", f"store.directory={store}"]
    if weights is not None:
        settings.append(f"backbone.weights={weights.resolve()}")
    return [word for setting in [*settings, *more] for word in ("--set", setting)]


def report(console: Console, watched: Watched, store: Folder, run: Path) -> None:
    """Print what was measured beside its goals."""
    lines = history.read(run / "metrics.jsonl")
    training = [line for line in lines if line["replies"]]
    payload = max(line["bytes_up"] / line["replies"] for line in training) / 1e6
    console.print(f"wall time: {goal(watched.seconds, GOAL_SECONDS, 's')}")
    console.print(f"features: {store.text()}")
    console.print(f"payload: {goal(payload, GOAL_MEGABYTES, 'MB a client a round', digits=3)}")
    console.print(
        f"peak memory: {goal(watched.peak_pss / 1e9, GOAL_GIGABYTES, 'GB of PSS', digits=2)}"
        f" ({watched.peak_processes} processes; sampling took {watched.sampling:.1f} s)"
    )
    print_rounds(console, lines)
    print_quality(console, run / "results.csv")


def print_rounds(console: Console, lines: list[dict[str, Any]]) -> None:
    """Print the seconds of the rounds: with an evaluation, and of training alone."""
    groups = {
        "training alone": [line for line in lines if line["mean_image_auroc"] is None],
        "with evaluation": [line for line in lines if line["mean_image_auroc"] is not None],
    }
    keys = ("seconds", "seconds_compute", "seconds_overhead")
    rows = [
        (name, str(len(group)), *(Sample(tuple(line[k] for line in group)).text(2) for k in keys))
        for name, group in groups.items()
        if group
    ]
    print_table(
        console, "seconds a round", ("rounds", "number", "all", "compute", "overhead"), rows
    )


def print_quality(console: Console, results: Path) -> None:
    """Print the mean AUROC of the control beside the reference, and of the trained arm."""
    sites = site_table(read_rows(results))
    control, trained = arm_mean(sites, "control"), arm_mean(sites, "trained")
    if control is None or trained is None:
        console.print("image AUROC: not measured")
        return
    away = abs(control - REFERENCE)
    console.print(
        f"mean image AUROC of {len(sites)} sites: {CONTROL} {control:.4f}, "
        f"{TRAINED} {trained:.4f}, reference {REFERENCE}"
    )
    console.print(f"control to reference: {goal(away, TOLERANCE, '', digits=4)}")


if __name__ == "__main__":
    typer.run(main)
