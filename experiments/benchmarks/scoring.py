"""The time to score one image, backbone included, beside the backbone's forward pass alone.

The forward pass is timed as timm gives it, which the goal is stated in, and as the detectors run
it, with its constants folded.

    python -m experiments.benchmarks.scoring --data DIR --weights FILE

Each detector is fitted to the same support. anomalib's PatchCore takes its turns in another
process, where `make rivals` has installed it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import typer
from rich.console import Console
from torch import Tensor

from bayfed.config import Backbone, Evaluation, Experiment
from bayfed.episodes import Pools, draw_support
from bayfed.errors import BayfedError
from bayfed.evaluation.supports import read_support, support_pictures
from bayfed.evaluation.system import build_system
from bayfed.features.preprocess import input_shape, resized
from bayfed.features.trunk import FrozenTrunk
from experiments.bench.arms import names_of
from experiments.bench.request import Request, understand
from experiments.benchmarks.measure import (
    Sample,
    goal,
    print_machine,
    print_table,
    time_rivals,
    wide_console,
)
from experiments.benchmarks.rivals import paths, pools_of, whole
from experiments.options import Overrides
from experiments.rivals import call
from experiments.rivals.anomalib_patchcore import peak
from experiments.rivals.job import Site

GOAL = 1.15
"""Largest ratio of a scored image to the backbone's forward pass."""
BACKBONE, FOLDED, ANOMALIB = "backbone alone", "backbone, folded", "patchcore of anomalib"
METHODS = "baypranometa,patchcore,padim,mahalanobis,anomalydino"


class Rival(NamedTuple):
    """What is timed, the bytes of the fitted model, and the tensors that a call holds at once."""

    score: Callable[[], object]
    size: int
    peak: int


def main(
    data: Annotated[Path, typer.Option(help="Folder of sites; the first one is scored.")],
    weights: Annotated[Path, typer.Option(help="Weights of the backbone.")],
    experiment: Annotated[str, typer.Option(help="YAML file or bundled name.")] = "untrained",
    methods: Annotated[str, typer.Option(help="Of the file or presets, by commas.")] = METHODS,
    site: Annotated[str, typer.Option(help="Name of a site.")] = "",
    shots: Annotated[int, typer.Option(help="Good images of the support.")] = 5,
    repeats: Annotated[int, typer.Option(help="Measurements behind a median.")] = 50,
    threads: Annotated[int, typer.Option(help="Torch threads.")] = 1,
    settings: Overrides = None,
) -> None:
    """Time one image through each detector."""
    torch.set_num_threads(threads)
    console = wide_console()
    print_machine(console)
    names = tuple(name for name in methods.split(",") if name)
    request = Request(
        experiment, names, data, (site,) if site else (), weights=weights,
        settings=tuple(settings or ()),
    )  # fmt: skip
    try:
        compare(console, understand(request).systems, Evaluation(shots=shots, draws=1), repeats)
    except BayfedError as error:
        console.print(f"error: {error}", markup=False)
        raise typer.Exit(2) from None


def compare(
    console: Console, systems: Mapping[str, Experiment], settings: Evaluation, repeats: int
) -> None:
    """Fit every system to one support, time them in turn and print the table."""
    first = next(iter(systems.values()))
    view = pools_of(first, names_of(first)[0][0])
    with torch.no_grad(), ExitStack() as stack:
        rivals = backbones(first, view)
        for name, system in variants(systems).items():
            rivals[name] = detector(system, view, settings)
        same = next((one for one in systems.values() if one.method.name == "patchcore"), None)
        if same is not None and call.is_there():
            rivals[ANOMALIB] = anomalib(stack, same, view, settings)
        else:
            why = call.ABSENT if same is not None else "no patchcore is measured"
            console.print(f"{ANOMALIB}: left out, {why}")
        timed = time_rivals({name: one.score for name, one in rivals.items()}, repeats, warmup=5)
    title = f"one image of {view.site}, {first.backbone.name} at {first.backbone.image_size} px"
    headings = (
        "detector", "ms", "times the backbone", "times the folded one", "model, bytes",
        "peak of a call, bytes",
    )  # fmt: skip
    print_table(console, title, headings, rows_of(timed, rivals))
    for name in systems:
        ratio = timed[name].median / timed[BACKBONE].median
        console.print(f"{name}: {goal(ratio, GOAL, 'times the backbone', digits=3)}")


def variants(systems: Mapping[str, Experiment]) -> dict[str, Experiment]:
    """Return the systems, and PatchCore without a coreset behind PatchCore with one."""
    found = {}
    for name, system in systems.items():
        found[name] = system
        if getattr(system.method, "coreset", 1.0) < 1.0:
            found[f"{name}, whole memory"] = whole(system)
    return found


def picture(view: Pools, settings: Backbone) -> Tensor:
    """Return the first test image as the network wants it, ``(1, 3, h, w)``."""
    size, image = settings.image_size, view.testing[0]
    shape = (size, size) if settings.aspect == "square" else input_shape(image.ratio, size)
    return resized(image.pixels(), shape)[None]


def backbones(experiment: Experiment, view: Pools) -> dict[str, Rival]:
    """Return the network of the stages alone, from a normalised image to their maps."""
    plain = experiment.backbone.model_copy(update={"wide": None})
    trunk = build_system(experiment.model_copy(update={"backbone": plain})).encoder.trunk
    if not isinstance(trunk, FrozenTrunk):
        raise BayfedError(f"backbone.trainable: {experiment.backbone.trainable} has no trunk")
    inputs = trunk.backbone.normalise(picture(view, experiment.backbone))
    inputs = inputs.contiguous(memory_format=torch.channels_last)

    networks: dict[str, Callable[[Tensor], object]] = {
        BACKBONE: trunk.backbone.network,
        FOLDED: trunk.network,
    }
    scores = {name: partial(network, inputs) for name, network in networks.items()}
    return {name: Rival(score, 0, peak(score)) for name, score in scores.items()}


def detector(experiment: Experiment, view: Pools, settings: Evaluation) -> Rival:
    """Return a fitted detector that scores a picture from its pixels."""
    method, encoder, store = build_system(experiment)
    image = picture(view, experiment.backbone)
    support = draw_support(view, int(settings.shots), experiment.seed, 0)
    pictures = support_pictures(view, settings, experiment.seed, method.poses)
    features = store.open(pictures)
    params = method.initial(experiment.seed)
    adapted = method.adapt(params, read_support(features, support, method.poses))

    def score() -> object:
        return method.score(adapted, encoder.trunk(image))

    return Rival(score, method.size(adapted), peak(score))


def anomalib(stack: ExitStack, experiment: Experiment, view: Pools, settings: Evaluation) -> Rival:
    """Return anomalib's PatchCore with the settings of ``experiment``, in its own process."""
    support = draw_support(view, int(settings.shots), experiment.seed, 0)
    told = Site(view.site, [paths(support)], paths(view.testing[:1]))
    job = call.job_of(experiment, [told], torch.get_num_threads())
    served = stack.enter_context(call.serve(job))
    return Rival(served, served.facts["bytes"], served.facts["peak"])


def rows_of(timed: Mapping[str, Sample], rivals: Mapping[str, Rival]) -> list[tuple[str, ...]]:
    """Return a row a detector, with the ratios to the backbone."""
    forward, folded = timed[BACKBONE].median, timed[FOLDED].median
    return [
        (
            name,
            sample.scaled(1000).text(2),
            f"{sample.median / forward:.3f}",
            f"{sample.median / folded:.3f}",
            f"{rivals[name].size:,}",
            f"{rivals[name].peak:,}",
        )
        for name, sample in timed.items()
    ]


if __name__ == "__main__":
    typer.run(main)
