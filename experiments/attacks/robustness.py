"""What hostile clients do to accuracy, without and with a defence.

    python -m experiments.attacks.robustness --data DIR --weights FILE --out DIR

Eight factories train; one or two of them attack in every round. The table tells the mean image
AUROC of the honest factories after the last round, and for the backdoor that of defects with the
trigger on them.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer

from bayfed.config import experiment_hash
from bayfed.errors import FederationError
from bayfed.evaluation.summary import TRAINED, draws_by_site, last_round
from bayfed.evaluation.table import read_rows
from clients.app import app
from clients.factory import Factory
from clients.partition import client_specs
from experiments.attacks.hostile import FORGERIES, POISONS, Hostile
from experiments.attacks.poison import with_stickers
from experiments.benchmarks.measure import print_machine, print_table, wide_console
from experiments.inprocess import InProcessGrid, flower_identity
from experiments.options import Overrides
from experiments.resolve import resolve
from server.app import serve
from server.checkpoints import latest
from server.job import Job

SITES = "casting,ac_piston,ball_screw,elpv_mono,fabric,juice_bottle,magnetic_tile,tire"
DEFENCES = {
    "none": ("rule=mean",),
    "norm": ("rule=mean", "norm=3", "quarantine=3"),
    "median": ("rule=median",),
    "trimmed mean": ("rule=trimmed_mean", "hostile={hostile}"),
    "multi-Krum": ("rule=multi_krum", "hostile={hostile}"),
}
ATTACKS = (*FORGERIES, *POISONS)
HONEST = "none"
FIELDS = ("attack", "hostile", "defence", "auroc", "triggered", "outcome")


@dataclass(frozen=True)
class Cell:
    """One run: an attack by so many clients, and a defence."""

    attack: str
    hostile: int
    defence: str

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.attack}-{self.hostile}-{self.defence}".replace(" ", "-")


def main(
    data: Annotated[Path, typer.Option(help="Folder of the sites.")],
    weights: Annotated[Path, typer.Option(help="Weights of the backbone.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs; those that are done are kept.")],
    sites: Annotated[
        str, typer.Option(help="Names; the last ones by the alphabet are hostile.")
    ] = SITES,
    settings: Overrides = None,
    attacks: Annotated[str, typer.Option(help="Separated by commas.")] = ",".join(ATTACKS),
    hostile: Annotated[str, typer.Option(help="Numbers of hostile clients.")] = "1,2",
) -> None:
    """Run every attack against every defence."""
    console = wide_console()
    print_machine(console)
    names = sites.split(",")
    common = [
        f"data.root={data}", f"backbone.weights={weights}", f"data.sites=[{','.join(names)}]",
        "data.families={}", "federation.quorum=0.5",
        "federation.largest_loss=1e30", *(settings or []),
    ]  # fmt: skip
    numbers = [int(number) for number in hostile.split(",")]
    grid = itertools.product([HONEST, *attacks.split(",")], numbers, DEFENCES)
    cells = [Cell(*key) for key in grid]
    rows = _done(out / "results.csv")
    for cell in cells:
        if cell not in rows:
            rows[cell] = measure(cell, common, names, out)
            _write(out / "results.csv", rows)
    for number in sorted({cell.hostile for cell in cells}):
        print_table(
            console, _title(number, len(names)), ("attack", *DEFENCES), _table(rows, number)
        )


def _title(number: int, clients: int) -> str:
    return f"AUROC of the honest (of defects with the trigger), {number} of {clients} hostile"


def measure(cell: Cell, common: Sequence[str], sites: Sequence[str], out: Path) -> dict[str, Any]:
    """Run ``cell`` and return what it came to."""
    bad = frozenset(range(len(sites) - cell.hostile, len(sites)))
    words = [f"federation.defence.{w.format(hostile=cell.hostile)}" for w in DEFENCES[cell.defence]]
    job = resolve("sites", [*common, *words], out / cell.name)
    specs = client_specs(job.experiment)
    answers = app if cell.attack == HONEST else Hostile(cell.attack, bad)
    problem: Any = import_module("clients.factory")
    try:
        with flower_identity():
            serve(InProcessGrid(answers, len(specs)), job, problem)
    except FederationError as error:
        return {"outcome": str(error)}
    rows = last_round(read_rows(job.results), TRAINED)
    of_site = draws_by_site(rows)
    kept = [spec.name for number, spec in enumerate(specs) if number not in bad]
    found: dict[str, Any] = {"auroc": fmean(fmean(of_site[name]) for name in kept)}
    if cell.attack in ("backdoor", HONEST):
        found["triggered"] = triggered(job, [i for i, spec in enumerate(specs) if i not in bad])
    return {**found, "outcome": "completed"}


def triggered(job: Job, clients: Sequence[int]) -> float:
    """Return the mean image AUROC of defects with the trigger on them, at the given clients."""
    snapshot = latest(job.out / "checkpoints", experiment_hash(job.experiment))
    if snapshot is None:
        raise FederationError(f"{job.out}: no checkpoint")
    found = []
    for client in clients:
        factory = Factory.open(job.experiment, client, with_stickers)
        rows = factory.evaluate(snapshot.theta, {})
        found.append(fmean(row["image_auroc"] for row in rows))
    return fmean(found)


def _table(rows: dict[Cell, dict[str, Any]], number: int) -> list[list[str]]:
    names = dict.fromkeys(cell.attack for cell in rows if cell.hostile == number)
    return [
        [name, *(_shown(rows.get(Cell(name, number, defence), {})) for defence in DEFENCES)]
        for name in names
    ]


def _shown(row: dict[str, Any]) -> str:
    if not row.get("auroc"):
        return "stopped" if row else ""
    shown = f"{float(row['auroc']):.3f}"
    return f"{shown} ({float(row['triggered']):.3f})" if row.get("triggered") else shown


def _done(path: Path) -> dict[Cell, dict[str, Any]]:
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {
            Cell(row["attack"], int(row["hostile"]), row["defence"]): dict(row)
            for row in csv.DictReader(file)
        }


def _write(path: Path, rows: dict[Cell, dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, restval="", extrasaction="ignore")
        writer.writeheader()
        for cell, row in rows.items():
            key = {"attack": cell.attack, "hostile": cell.hostile, "defence": cell.defence}
            writer.writerow({**row, **key})


if __name__ == "__main__":
    typer.run(main)
