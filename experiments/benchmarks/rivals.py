"""bayfed's PatchCore beside anomalib's: same images, supports, backbone and settings.

    make rivals
    python -m experiments.benchmarks.rivals --data DIR --weights FILE --draws 5

Through the coreset the two differ by chance, for anomalib draws its first patch and a
projection. With the whole memory nothing is drawn, and what differs is rounding: bayfed resizes
bytes, anomalib floats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console

from bayfed.config import Evaluation, Experiment
from bayfed.data import SiteImage, load_sites
from bayfed.data.files import FileSource
from bayfed.episodes import Pools, draws_of, training_pools, without_copies
from bayfed.errors import BayfedError, DataError
from bayfed.evaluation.calibrate import image_scores
from bayfed.evaluation.system import build_system
from bayfed.metrics import image_auroc
from experiments.bench.arms import names_of
from experiments.bench.request import Request, understand
from experiments.benchmarks.measure import (
    Sample,
    goal,
    print_machine,
    print_table,
    wide_console,
)
from experiments.options import Overrides
from experiments.rivals.anomalib_patchcore import KINDS
from experiments.rivals.call import job_of, scores_of
from experiments.rivals.job import Site

GOAL = 0.01
"""Largest difference between the two, in AUROC."""
TITLES = {"coreset": "image AUROC, memory of a coreset", "whole": "image AUROC, whole memory"}
Aurocs = NDArray[np.float64]


def main(
    data: Annotated[Path, typer.Option(help="Folder of the sites.")],
    weights: Annotated[Path, typer.Option(help="Weights of the backbone.")],
    experiment: Annotated[str, typer.Option(help="YAML file or bundled name.")] = "untrained",
    sites: Annotated[str, typer.Option(help="Separated by commas; otherwise all.")] = "",
    shots: Annotated[int, typer.Option(help="Good images of a support.")] = 5,
    draws: Annotated[int, typer.Option(help="Supports of a site.")] = 5,
    settings: Overrides = None,
) -> None:
    """Compare image AUROC at equal settings."""
    console = wide_console()
    print_machine(console)
    try:
        compare(console, patchcore(experiment, data, weights, sites, settings or []), shots, draws)
    except BayfedError as error:
        console.print(f"error: {error}", markup=False)
        raise typer.Exit(2) from None


def patchcore(
    experiment: str, data: Path, weights: Path, sites: str, settings: Sequence[str]
) -> Experiment:
    """Return PatchCore as the experiment has it; features are kept as exact as anomalib's."""
    request = Request(
        experiment,
        ("patchcore",),
        data,
        tuple(filter(None, sites.split(","))),
        weights=weights,
        settings=("store.dtype=float32", *settings),
    )
    return understand(request).systems["patchcore"]


def compare(console: Console, experiment: Experiment, shots: int, draws: int) -> None:
    """Score the same images with both and print how far apart they are."""
    views = [pools_of(experiment, name) for name, _ in names_of(experiment)]
    settings = Evaluation(shots=shots, draws=draws)
    supports = [[d.support for d in draws_of(view, settings, experiment.seed)] for view in views]
    told = [
        Site(view.site, [paths(support) for support in some], paths(view.testing))
        for view, some in zip(views, supports, strict=True)
    ]
    theirs = scores_of(job_of(experiment, told, torch.get_num_threads()))
    console.print(f"{theirs['library']}, torch {theirs['torch']}", highlight=False)
    for kind in KINDS:
        ours = experiment if kind == "coreset" else whole(experiment)
        found = {
            view.site: (rated(view, scores(ours, view, some)), rated(view, site[kind]))
            for view, some, site in zip(views, supports, theirs["sites"], strict=True)
        }
        show(console, f"{TITLES[kind]}, {shots} shots, {draws} draws", found)


def pools_of(experiment: Experiment, name: str) -> Pools:
    """Return the images of a site as a bench reads them."""
    data = experiment.data.model_copy(update={"sites": (name,)})
    (site,) = load_sites(data, experiment.seed)
    return without_copies(training_pools(site, experiment.protocol, (), experiment.seed))


def paths(images: Sequence[SiteImage]) -> list[str]:
    """Return where the images lie.

    Raises:
        DataError: they are drawn, and lie nowhere.
    """
    sources = [image.source for image in images]
    files = [source.path.resolve() for source in sources if isinstance(source, FileSource)]
    if len(files) < len(images):
        raise DataError("two libraries can only read the same files; name a folder of sites")
    return [str(path) for path in files]


def whole(experiment: Experiment) -> Experiment:
    """Return ``experiment`` without a coreset."""
    method = experiment.method.model_copy(update={"coreset": 1.0})
    return experiment.model_copy(update={"method": method})


def scores(
    experiment: Experiment, view: Pools, supports: Sequence[Sequence[SiteImage]]
) -> list[list[float]]:
    """Return bayfed's scores of the test images for each support."""
    method, _, store = build_system(experiment)
    images = {image.name: image for some in (*supports, view.testing) for image in some}
    features, params = store.open(tuple(images.values())), method.initial(experiment.seed)
    names = [image.name for image in view.testing]
    found = []
    for support in supports:
        adapted = method.adapt(params, features.read([image.name for image in support]))
        found.append(image_scores(method, adapted, features, names).tolist())
    return found


def rated(view: Pools, draws: Sequence[Sequence[float]]) -> Aurocs:
    """Return the image AUROC of each draw's scores of the test images."""
    defective = np.array([image.defect is not None for image in view.testing])
    return np.array([image_auroc(np.array(some), defective) for some in draws], float)


def show(console: Console, title: str, found: Mapping[str, tuple[Aurocs, Aurocs]]) -> None:
    """Print a row a site, and the largest and the mean difference beside the goal."""
    ours, theirs = (np.stack([pair[side] for pair in found.values()]) for side in (0, 1))
    rows = [
        (
            site,
            Sample(tuple(one)).text(3),
            Sample(tuple(other)).text(3),
            f"{one.mean() - other.mean():+.4f}",
            f"{np.abs(one - other).max():.4f}",
        )
        for site, (one, other) in found.items()
    ]
    mean = (f"{ours.mean():.4f}", f"{theirs.mean():.4f}", f"{ours.mean() - theirs.mean():+.4f}")
    headings = ("site", "bayfed", "anomalib", "mean difference", "largest of a draw")
    print_table(console, title, headings, [*rows, (f"mean of {len(found)}", *mean, "")])
    away = np.abs((ours - theirs).mean(1))
    console.print(f"mean over sites: {goal(abs(ours.mean() - theirs.mean()), GOAL, '', digits=4)}")
    console.print(f"largest of a site: {goal(float(away.max()), GOAL, '', digits=4)}")


if __name__ == "__main__":
    typer.run(main)
