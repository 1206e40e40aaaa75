"""What a product costs: seconds to fit, images a second, memory over a long stream, bytes.

    python -m experiments.benchmarks.product GOOD_DIR --weights FILE --stream 20000

``GOOD_DIR`` holds good images of one product; five are fitted to, all are scored in turn.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated

import psutil
import torch
import typer
from rich.console import Console

from bayfed.errors import BayfedError
from bayfed.inference.pictures import files_of
from bayfed.inference.streaming import stream
from bayfed.product import Detector, Source, from_backbone
from bayfed.product.source import build
from experiments.benchmarks.measure import Sample, goal, print_machine, wide_console

FIT_GOAL, RATE_GOAL, BYTES_GOAL = 5.0, 15.0, 2_000_000
"""Seconds at most, images a second at least, bytes at most."""
GROWTH_GOAL = 1.05
"""Memory at the end of the stream over that after its first part, at most."""
PARTS = 20
"""Of the stream, after each of which the memory is looked at."""
MEGABYTE = 1e6


def main(
    folder: Annotated[Path, typer.Argument(help="Good images of one product.")],
    weights: Annotated[Path, typer.Option(help="Weights of the backbone.")],
    backbone: Annotated[str, typer.Option(help="Its name.")] = "mobilenetv2_100",
    shots: Annotated[int, typer.Option(help="Images of the support.")] = 5,
    repeats: Annotated[int, typer.Option(help="Measurements behind a median.")] = 5,
    number: Annotated[int, typer.Option("--stream", help="Images of the stream.")] = 2000,
    threads: Annotated[int, typer.Option(help="Torch threads.")] = 2,
) -> None:
    """Measure a product on this machine."""
    torch.set_num_threads(threads)
    console = wide_console()
    print_machine(console)
    try:
        files, source = files_of([folder]), from_backbone(backbone, weights)
        detector = measure_fit(console, files[:shots], source, repeats)
        measure_size(console, detector)
        measure_stream(console, detector, files, number)
    except BayfedError as error:
        console.print(f"error: {error}", markup=False)
        raise typer.Exit(2) from None


def measure_fit(console: Console, files: list[Path], source: Source, repeats: int) -> Detector:
    """Print the seconds of a fit: the first one traces the network, and is printed apart."""
    build(source.experiment)  # the backbone is loaded before the clock starts
    seconds, detector = [], None
    for _ in range(repeats + 1):
        started = time.perf_counter()
        detector = Detector.fit(files, source)
        seconds.append(time.perf_counter() - started)
    first, rest = seconds[0], Sample(tuple(seconds[1:]))
    console.print(f"fit to {len(files)} images: first {first:.2f} s, then {rest.text(2)} s")
    console.print(f"first fit: {goal(first, FIT_GOAL, 's', digits=2)}")
    if detector is None:
        raise BayfedError("repeats: at least one measurement is needed")
    return detector


def measure_size(console: Console, detector: Detector) -> None:
    """Print the bytes of the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "product.bayfed"
        detector.save(path)
        console.print(f"file: {goal(path.stat().st_size, BYTES_GOAL, 'bytes', digits=0)}")


def measure_stream(console: Console, detector: Detector, files: list[Path], number: int) -> None:
    """Print images a second and the memory along the stream, files read and decoded."""
    process, part = psutil.Process(), max(1, number // PARTS)
    rates, sizes = [], []
    started = time.perf_counter()
    for count, _ in enumerate(stream(detector, turns(files, number)), start=1):
        if count % part == 0:
            now = time.perf_counter()
            rates.append(part / (now - started))
            sizes.append(process.memory_info().rss)
            started = now
    rate = Sample(tuple(rates))
    console.print(f"stream of {number} images: {rate.text(1)} images/s")
    reached = goal(rate.median, RATE_GOAL, "images/s", at_least=True, digits=1)
    console.print(f"median: {reached}")
    growth = sizes[-1] / sizes[0]
    text = ", ".join(f"{size / MEGABYTE:.0f}" for size in sizes)
    console.print(f"memory after every {part} images, MB: {text}")
    console.print(f"growth: {goal(growth, GROWTH_GOAL, 'times', digits=3)}")


def turns(files: list[Path], number: int) -> Iterator[Path]:
    """Return ``number`` files, all of them in turn."""
    return islice(cycle(files), number)


if __name__ == "__main__":
    typer.run(main)
