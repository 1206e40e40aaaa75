"""Epsilon against accuracy: 11 real sites, and crowds of 200 and 1000 small factories.

    python -m experiments.benchmarks.privacy crowd
    python -m experiments.benchmarks.privacy sites --data DIR --weights FILE --out DIR

Noise is drawn from the seed, so that the numbers can be had again.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Annotated

import torch
import typer

from bayfed.evaluation.summary import CONTROL, TRAINED, last_round
from bayfed.evaluation.table import read_rows
from experiments.benchmarks import crowd as crowds
from experiments.benchmarks.kept import kept_run
from experiments.benchmarks.measure import print_machine, print_table, wide_console
from experiments.options import Overrides
from server import history
from server.job import Job
from server.results import mean_auroc
from strategies.privacy.accountant import Releases
from strategies.privacy.clients import ClientLevel

app = typer.Typer(add_completion=False)
COLUMNS = ("clients", "level", "z", "epsilon", "delta", "control", "trained", "difference")


@app.command("crowd")
def crowd_command(
    clients: Annotated[str, typer.Option(help="Numbers of clients.")] = "11,200,1000",
    noises: Annotated[str, typer.Option(help="Multiples of the clipping norm.")] = "4,16,64",
    rounds: Annotated[int, typer.Option(help="Of training.")] = 20,
    seed: Annotated[int, typer.Option(help="Of everything.")] = 0,
) -> None:
    """Measure factories that are laws in a feature space, one episode a client and round."""
    console = wide_console()
    print_machine(console)
    torch.set_num_threads(1)
    crowd = crowds.Crowd(seed)
    clip = crowds.usual_norm(64, crowd)
    rows: list[tuple[str, ...]] = []
    for number in map(int, clients.split(",")):
        delta = 1 / (10 * number)
        for noise in (None, *map(float, noises.split(","))):
            private = None if noise is None else ClientLevel(clip, noise, seed=seed)
            before, after = crowds.train(number, rounds, private, crowd)
            told = ("none", "", "", "")
            if noise is not None:
                cost = Releases(noise, rounds, sampled=number, population=number).epsilon(delta)
                told = ("client", f"{noise:g}", f"{cost:.3g}", f"{delta:.1e}")
            numbers = (fmean(before), fmean(after))
            difference = f"{crowds.gain(before, after):+.4f}"
            rows.append((str(number), *told, *(f"{n:.4f}" for n in numbers), difference))
            print_table(console, f"{rounds} rounds", COLUMNS, rows[-1:])
    print_table(console, f"all, {rounds} rounds, replace-one", COLUMNS, rows)


@app.command("sites")
def sites_command(
    data: Annotated[Path, typer.Option(help="Folder of the sites.")],
    weights: Annotated[Path, typer.Option(help="Weights of the backbone.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs; those that are done are kept.")],
    experiment: Annotated[str, typer.Option(help="YAML file or bundled name.")] = "sites",
    settings: Overrides = None,
    noises: Annotated[str, typer.Option(help="Of clients.")] = "1,16",
    image_noises: Annotated[str, typer.Option(help="Of images.")] = "4,32",
    clip: Annotated[float, typer.Option(help="Largest norm of an update or a gradient.")] = 1.0,
    delta: Annotated[float, typer.Option(help="Of clients.")] = 0.009,
    image_delta: Annotated[float, typer.Option(help="Of images.")] = 1e-4,
) -> None:
    """Measure the real sites: no noise, clients hidden, and images hidden instead."""
    console = wide_console()
    print_machine(console)
    common = [f"data.root={data}", f"backbone.weights={weights}", *(settings or [])]
    forms: dict[tuple[str, str], list[str]] = {("none", ""): []}
    for noise in noises.split(","):
        forms["client", noise] = [f"uplink.clip={clip}", *_private("client", noise, delta)]
    for noise in image_noises.split(","):
        words = _private("image", noise, image_delta)
        forms["image", noise] = [f"privacy.clip={clip}", *words]
    rows = []
    for (level, noise), words in forms.items():
        job = kept_run(
            experiment, [*common, *(f"federation.{w}" for w in words)], out / (level + noise)
        )
        rows.append(_cells(job, level, noise))
        print_table(console, job.out.name, COLUMNS, rows[-1:])
    print_table(console, "real sites, replace-one", COLUMNS, rows)


def _private(level: str, noise: str, delta: float) -> list[str]:
    words = {"level": level, "noise": noise, "delta": delta, "reproducible": "true"}
    return [f"privacy.{key}={value}" for key, value in words.items()]


def _cells(job: Job, level: str, noise: str) -> tuple[str, ...]:
    rows, last = read_rows(job.results), history.read(job.history)[-1]
    means = [mean_auroc(last_round(rows, arm)) or 0.0 for arm in (CONTROL, TRAINED)]
    cost = [f"{last['epsilon']:.3g}", f"{last['delta']:.1e}"] if "epsilon" in last else ["", ""]
    numbers = (f"{means[0]:.4f}", f"{means[1]:.4f}", f"{means[1] - means[0]:+.4f}")
    return str(len(last["clients"])), level, noise, *cost, *numbers


if __name__ == "__main__":
    app()
