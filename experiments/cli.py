"""The federation commands of ``bayfed``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from experiments.options import Overrides

app = typer.Typer()


@app.command()
def run(
    experiment: Annotated[str, typer.Argument(help="A YAML file, or a bundled name: demo.")],
    settings: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint in --out.")] = False,
) -> None:
    """Meta-train over several factories with Flower and write the results and a report."""
    from experiments.resolve import resolve
    from experiments.run import run as run_job

    run_job(resolve(experiment, settings or (), out, resume), Console())


@app.command()
def study(
    experiment: Annotated[
        str, typer.Argument(help="A YAML file with a section study, or a bundled name: study.")
    ] = "study",
    settings: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the study.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with what is in --out.")] = False,
    estimate: Annotated[bool, typer.Option(help="Only say what it will cost.")] = False,
) -> None:
    """Run strategies under heterogeneities: tables, figures and what was found."""
    import time

    from bayfed.errors import ConfigError
    from experiments.study.plan import plan
    from experiments.study.run import run as run_study

    if out is None and resume:
        raise ConfigError("resume: the folder of the study to go on with is needed (--out)")
    name = f"{Path(experiment).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    base = Path.cwd()
    planned = plan(experiment, settings or (), out or Path("runs") / name, base)
    run_study(planned, resume, estimate, Console())


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@app.command()
def bench(
    experiment: Annotated[
        str | None, typer.Argument(help="A YAML file, or a bundled name; otherwise bench.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the bench.")] = None,
    methods: Annotated[str, typer.Option(help="Systems, separated by commas.")] = "",
    data: Annotated[Path | None, typer.Option(help="Folder of sites.")] = None,
    sites: Annotated[str, typer.Option(help="Names of sites; otherwise all.")] = "",
    shots: Annotated[str, typer.Option(help="Good images of a support, as in 1,5,full.")] = "",
    noise: Annotated[
        str, typer.Option(help="Shares of them that are defects, as in 0,0.1,0.4.")
    ] = "",
    seeds: Annotated[int | None, typer.Option(min=1, help="Replicates.")] = None,
    draws: Annotated[int | None, typer.Option(min=1, help="Supports a site and seed.")] = None,
    protocol: Annotated[str, typer.Option(help="standard, new-product, new-defect.")] = "",
    backbone: Annotated[str | None, typer.Option(help="Name of the backbone.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Local weights of the backbone (safetensors).")
    ] = None,
    arms: Annotated[
        str,
        typer.Option(help="none, prior, local, centralised, federated, federated+finetune."),
    ] = "",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; otherwise cores.")] = None,
    settings: Overrides = None,
    resume: Annotated[bool, typer.Option(help="Go on with what is in --out.")] = False,
) -> None:
    """Compare systems on many sites: one table, its plots and a page."""
    from experiments.bench.request import Request
    from experiments.bench.run import run as run_bench

    request = Request(
        experiment, _split(methods), data, _split(sites), _split(shots), seeds, draws,
        _split(protocol), backbone, weights, _split(arms), workers, tuple(settings or ()),
        out, resume, _split(noise),
    )  # fmt: skip
    run_bench(request, Console())
