"""``bayfed sites`` and ``bayfed synthesise``: look at the sites of a folder, or draw some."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

# The library is imported where it is used, so that no command waits for the others' imports.
if TYPE_CHECKING:
    from bayfed.data.describe import SiteDescription


def _range(values: tuple[int, int] | None) -> str:
    if values is None:
        return "-"
    low, high = values
    return str(low) if low == high else f"{low}-{high}"


def _counts(values: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in values.items()) or "-"


def _table(descriptions: list[SiteDescription]) -> Table:
    table = Table(title=f"{len(descriptions)} sites, layout {descriptions[0].layout}")
    for heading in ("site", "train good", "test good", "defects", "masks", "pixels", "modes"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "site")
    for site in descriptions:
        cells = (
            site.name,
            str(site.train_good),
            str(site.test_good),
            _counts(site.defects),
            str(site.masks),
            f"{_range(site.width)} x {_range(site.height)}",
            _counts(site.modes),
        )
        table.add_row(*map(escape, cells))
    return table


def _show(descriptions: list[SiteDescription]) -> None:
    console = Console()
    console.print(_table(descriptions))
    for site in descriptions:
        for word, style, texts in (
            ("error", "red", site.errors),
            ("warning", "yellow", site.warnings),
        ):
            for text in texts:
                line = f"[{style}]{word}[/] {escape(site.name)}: {escape(text)}"
                console.print(line, soft_wrap=True, highlight=False)


def sites_command(
    directory: Annotated[Path, typer.Argument(help="A site, or a folder of sites.")],
    layout: Annotated[str, typer.Option(help="auto, mvtec, visa, ksdd2 or folder.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Splits plain folders as a run does.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Open every image of the sites in DIRECTORY; exit with 1 if a run would fail on them."""
    from bayfed.data.describe import describe_sites

    descriptions = describe_sites(directory, layout, seed)
    if as_json:
        typer.echo(json.dumps([asdict(site) for site in descriptions], indent=2))
    else:
        _show(descriptions)
    if any(site.errors for site in descriptions):
        raise typer.Exit(1)


def synthesise_command(
    directory: Annotated[Path, typer.Argument(help="Folder to write the sites to.")],
    products: Annotated[int, typer.Option(help="Number of sites.")] = 16,
    size: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all drawings.")] = 0,
) -> None:
    """Draw synthetic factories and write them in the layout of MVTec AD."""
    from bayfed.config import parse_experiment
    from bayfed.data import load_sites
    from bayfed.data.synthetic import write_sites

    tree = {"data": {"synthetic": {"products": products, "size": size}}, "seed": seed}
    data = parse_experiment(tree, "bayfed synthesise").data
    count = write_sites(load_sites(data, seed), directory)
    typer.echo(f"{count} images of {products} sites in {directory}")
