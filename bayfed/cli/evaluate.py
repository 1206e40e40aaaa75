"""``bayfed evaluate``: the numbers of a finished run on other sites, shots or draws."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def evaluate_command(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of sites; without it the run's own data.")
    ] = None,
    sites: Annotated[str, typer.Option(help="Names, separated by commas; otherwise all.")] = "",
    layout: Annotated[str, typer.Option(help="auto, mvtec, visa, ksdd2 or folder.")] = "auto",
    shots: Annotated[int | None, typer.Option(help="Good images of a support.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Draws of the support.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="standard, new-product or new-defect; otherwise the run's.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the table results.csv; otherwise RUN.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Local weights of the backbone (safetensors).")
    ] = None,
    round_: Annotated[
        int | None, typer.Option("--round", min=0, help="Checkpoint; otherwise the newest.")
    ] = None,
) -> None:
    """Evaluate RUN on sites that may be new to it, against its own round-0 parameters."""
    # Imported here, so that no command waits for the others' imports.
    from bayfed.evaluation.evaluate import Request, evaluate_run
    from bayfed.evaluation.summary import print_summary

    names = tuple(name.strip() for name in sites.split(",") if name.strip())
    request = Request(run, data, names, layout, shots, seeds, protocol, weights, round_, out)
    evaluated, console = evaluate_run(request), Console()
    print_summary(evaluated.rows, console)
    for note in evaluated.notes:
        console.print(note, markup=False, highlight=False)
    console.print(f"results: {evaluated.results}", markup=False, highlight=False, soft_wrap=True)
