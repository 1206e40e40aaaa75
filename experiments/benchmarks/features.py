"""The trunk's speed on images that no store has, and the speed of the store afterwards.

python -m experiments.benchmarks.features --images 64
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from bayfed.config import Data, Experiment, Synthetic, load_experiment
from bayfed.data import SiteImage, load_sites
from bayfed.data.synthetic import write_sites
from bayfed.features import Encoder, FeatureStore, build_encoder
from bayfed.features.preprocess import resized
from experiments.benchmarks.measure import (
    Sample,
    print_machine,
    print_table,
    time_rivals,
    wide_console,
)
from experiments.resolve import find

TOKENS = 196
"""Tokens of an image that a training episode reads."""


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of sites; drawn if absent.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights; speed needs none.")] = None,
    experiment: Annotated[str, typer.Option(help="Whose backbone is measured.")] = "sites",
    images: Annotated[int, typer.Option(help="Images.")] = 64,
    side: Annotated[int, typer.Option(help="Side of the drawn images.")] = 256,
    repeats: Annotated[int, typer.Option(help="Measurements behind a median.")] = 3,
    threads: Annotated[int, typer.Option(help="Torch threads; a client has one.")] = 1,
) -> None:
    """Measure decoding, the trunk, a cold store and a warm one."""
    torch.set_num_threads(threads)
    console = wide_console()
    print_machine(console)
    settings = backbone_of(experiment, weights)
    encoder = build_encoder(settings, torch.device("cpu"))
    with tempfile.TemporaryDirectory(prefix="bayfed-benchmark-") as folder:
        found = pictures(data or draw(Path(folder) / "sites", images, side), images)
        rivals = stages(encoder, settings, found, Path(folder))
        timed = time_rivals(rivals, repeats)
    rows = rows_of(timed, len(found))
    title = f"{len(found)} images, {settings.backbone.name} at {settings.backbone.image_size} px"
    print_table(console, title, ("stage", "ms an image", "images/s", "times the store"), rows)


def backbone_of(experiment: str, weights: Path | None) -> Experiment:
    """Return the experiment, with or without a file of weights."""
    given = [] if weights is None else [f"backbone.weights={weights.resolve()}"]
    return load_experiment(find(experiment, Path.cwd()), given)


def draw(root: Path, images: int, side: int) -> Path:
    """Write synthetic images to ``root``."""
    settings = Synthetic(products=1, size=side, train_good=images, test_good=1, per_defect=1)
    write_sites(load_sites(Data(synthetic=settings), seed=0), root)
    return root


def pictures(root: Path, images: int) -> list[SiteImage]:
    """Return the first good training images below ``root``."""
    sites = load_sites(Data(source="folders", root=root), seed=0)
    return [image for site in sites for image in site.train_good][:images]


def stages(
    encoder: Encoder, settings: Experiment, images: list[SiteImage], folder: Path
) -> dict[str, Callable[[], object]]:
    """Return what is timed; every cold opening has a folder of its own."""
    size, dtype, names = encoder.image_size, settings.store.dtype, [i.name for i in images]
    batch = encoder.trunk.batch
    inputs = torch.stack([resized(image.pixels(), (size, size)) for image in images[:batch]])
    filled = inputs.repeat(-(-batch // len(inputs)), 1, 1, 1)[:batch]
    warm = FeatureStore(folder / "warm", encoder.trunk, size, dtype)
    features = warm.open(images)
    tokens = np.arange(min(TOKENS, features.read(names[:1]).shape[1]))

    def cold() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as empty:
            FeatureStore(Path(empty), encoder.trunk, size, dtype).open(images)

    return {
        "cold: decode to store": cold,
        "decode and resize": lambda: [resized(image.pixels(), (size, size)) for image in images],
        "trunk": lambda: [encoder.trunk(filled) for _ in range(0, len(images), batch)],
        "open a warm store": lambda: warm.open(images),
        "read all tokens": lambda: features.read(names),
        f"read {len(tokens)} tokens": lambda: features.read(names, tokens),
    }


def rows_of(timed: dict[str, Sample], images: int) -> list[tuple[str, ...]]:
    """Return a row a stage, with the ratio to the cold store."""
    cold = next(iter(timed.values())).median
    return [
        (
            name,
            sample.scaled(1000 / images).text(2),
            f"{images / sample.median:.0f}",
            f"{cold / sample.median:.1f}",
        )
        for name, sample in timed.items()
    ]


if __name__ == "__main__":
    typer.run(main)
