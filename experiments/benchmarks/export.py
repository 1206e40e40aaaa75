"""What an export is worth: the same scores, how fast, and how large.

    python -m experiments.benchmarks.export DIR --weights FILE --sites casting,pill,fabric

``DIR`` holds sites in MVTec AD's layout; each is fitted to five of its good training images,
exported to ONNX and to OpenVINO, and its test images are scored by all three.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from rich.console import Console

from bayfed.data import Pixels
from bayfed.data.files import read_pixels
from bayfed.errors import BayfedError, DataError
from bayfed.inference.exported import Exported
from bayfed.inference.inspection import Inspection
from bayfed.inference.pictures import files_of
from bayfed.inference.streaming import Inspector
from bayfed.product import Detector, from_backbone
from bayfed.product.export import ENDINGS, Format, graph_of, written
from experiments.benchmarks.measure import goal, print_machine, print_table, wide_console

SCORE_GOAL = 1e-4
"""Largest relative difference of a score, at most."""
TORCH = "torch"


class Scored(NamedTuple):
    """What one system said of the images of a site, and how long it took."""

    found: list[Inspection]
    seconds: float


def main(
    folder: Annotated[Path, typer.Argument(help="Sites in MVTec AD's layout.")],
    weights: Annotated[Path, typer.Option(help="Weights of the backbone.")],
    sites: Annotated[str, typer.Option(help="Their names, separated by commas.")],
    backbone: Annotated[str, typer.Option(help="Its name.")] = "mobilenetv2_100",
    shots: Annotated[int, typer.Option(help="Images of a support.")] = 5,
    number: Annotated[int, typer.Option(help="Test images, of all sites together.")] = 100,
    threads: Annotated[int, typer.Option(help="Of each system.")] = 2,
) -> None:
    """Compare a detector with its exports."""
    torch.set_num_threads(threads)
    console, names = wide_console(), sites.split(",")
    print_machine(console)
    try:
        each = [
            measured(folder / name, backbone, weights, shots, -(-number // len(names)), threads)
            for name in names
        ]
    except BayfedError as error:
        console.print(f"error: {error}", markup=False)
        raise typer.Exit(2) from None
    report(console, names, each)


def measured(
    site: Path, backbone: str, weights: Path, shots: int, number: int, threads: int
) -> dict[str, Scored]:
    """Return what each system says of a site's test images, spread over all kinds of them."""
    goods = files_of([site / "train" / "good"])[:shots]
    detector = Detector.fit(goods, from_backbone(backbone, weights), name=site.name)
    tests = files_of([site / "test"], below=True)
    chosen = [tests[i] for i in np.linspace(0, len(tests) - 1, number).astype(int)]
    if not set(goods).isdisjoint(chosen):
        raise DataError(f"{site}: support and test share a file")
    pictures = [read_pixels(path) for path in chosen]
    with tempfile.TemporaryDirectory() as place:
        graph = graph_of(detector)
        rivals: dict[str, Inspector] = {TORCH: detector}
        for kind in Format:
            made = written(Path(place) / f"product{ENDINGS[kind]}", graph, kind)
            size = sum(part.stat().st_size for part in made) / 1e6
            rivals[f"{kind} ({size:.1f} MB)"] = Exported.load(made[-1], threads)
        return {name: scored(rival, pictures) for name, rival in rivals.items()}


def scored(rival: Inspector, pictures: Sequence[Pixels]) -> Scored:
    """Score pictures one by one; the first is scored once more before the clock starts."""
    rival.inspect([pictures[0]], ["image"])
    started = time.perf_counter()
    found = [rival.inspect([picture], ["image"])[0] for picture in pictures]
    return Scored(found, time.perf_counter() - started)


def report(console: Console, names: Sequence[str], each: Sequence[Mapping[str, Scored]]) -> None:
    """Print differences and rates, by site and over all images."""
    rows = [
        [name, *row]
        for name, systems in zip(names, each, strict=True)
        for row in differences(systems)
    ]
    headings = [
        "site", "system", "images", "scores, relative", "beyond 1e-4", "nats", "heatmap, nats",
        "p-values", "decided alike", "images/s",
    ]  # fmt: skip
    print_table(console, "exports against torch, largest differences", headings, rows)
    worst = max(float(row[3]) for row in rows if row[1].startswith("onnx"))
    console.print(f"onnx scores: {goal(worst, SCORE_GOAL, '', digits=7)}")


def differences(systems: Mapping[str, Scored]) -> Iterator[list[str]]:
    """Yield the columns of each system against torch."""
    own = systems[TORCH].found
    scores = np.array([one.score for one in own])
    for name, (found, seconds) in systems.items():
        apart = np.abs([one.score for one in found] - scores)
        relative = apart / np.abs(scores)
        maps = max(map_apart(one, other) for one, other in zip(own, found, strict=True))
        p_values = max(
            abs((other.p_value or 0) / (one.p_value or 1) - 1)
            for one, other in zip(own, found, strict=True)
        )
        alike = sum(a.decision == b.decision for a, b in zip(own, found, strict=True))
        yield [
            name, str(len(own)), f"{relative.max():.1e}", str(int((relative > SCORE_GOAL).sum())),
            f"{apart.max():.1e}", f"{maps:.1e}", f"{p_values:.1e}", f"{alike} of {len(own)}",
            f"{len(own) / seconds:.1f}",
        ]  # fmt: skip


def map_apart(one: Inspection, other: Inspection) -> float:
    """Return the largest difference of two maps."""
    if one.surprise is None or other.surprise is None:
        return 0.0
    return float(np.abs(one.surprise - other.surprise).max())


if __name__ == "__main__":
    typer.run(main)
