"""The federation commands of ``bayfed``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer()


@app.command()
def run(
    experiment: Annotated[str, typer.Argument(help="A YAML file, or a bundled name: demo.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, as often as needed."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint in --out.")] = False,
) -> None:
    """Meta-train over several factories with Flower and write the results and a report."""
    from experiments.resolve import resolve
    from experiments.run import run as run_job

    run_job(resolve(experiment, settings or (), out, resume), Console())
