"""What an update gives away: members of a plant's images, its pictures and its features.

    python -m experiments.attacks.privacy membership --site SITE --set data.root=DIR ...
    python -m experiments.attacks.privacy reconstruction --site SITE ...

Pictures are sought where the backbone is trained, features where it is frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from bayfed.episodes.episode import EpisodeBatch
from bayfed.features import Params
from bayfed.seeds import stream, torch_stream
from experiments.attacks import inversion, membership
from experiments.attacks.plant import Plant
from experiments.benchmarks.measure import print_machine, print_table, wide_console
from experiments.options import Overrides
from experiments.resolve import absolute, find
from strategies.privacy.accountant import gaussian_epsilon

app = typer.Typer(add_completion=False)
Experiment = Annotated[str, typer.Option(help="YAML file or bundled name.")]
Site = Annotated[str, typer.Option(help="The plant that is attacked.")]
DELTA = 1e-3


def _open(experiment: str, site: str, settings: list[str] | None, most: int | None) -> Plant:
    from bayfed.config import load_experiment

    base = Path.cwd()
    found = load_experiment(find(experiment, base), settings or [])
    torch.set_num_threads(1)
    return Plant.open(absolute(found, base), site, most)


@app.command("membership")
def membership_command(
    site: Site,
    experiment: Experiment = "sites",
    settings: Overrides = None,
    images: Annotated[int, typer.Option(help="Candidates, half of them members.")] = 40,
    draws: Annotated[int, typer.Option(help="Shadow draws of the members.")] = 16,
    noises: Annotated[str, typer.Option(help="Multiples of the clipping norm.")] = "1,10,100",
) -> None:
    """Tell the images behind an update from others of the same plant."""
    console = wide_console()
    print_machine(console)
    needed = 40 + images
    plant = _open(experiment, site, settings, needed)
    params = plant.method.initial(plant.experiment.seed)
    found = membership.shadows(plant, params, images, draws, plant.experiment.seed)
    clip = float(np.median(np.linalg.norm(found.gradients, axis=-1)))
    rows = []
    for noise in (None, 0.0, *map(float, noises.split(","))):
        limit = None if noise is None else clip
        sent = membership.updates(found, limit, noise or 0.0, plant.experiment.seed)
        told = membership.attack(found, sent)
        name = "as it is" if noise is None else f"clipped, z = {noise:g}"
        cost = gaussian_epsilon(noise / 2 / found.repeats, DELTA) if noise else float("inf")
        numbers = (told.auc, told.auc_shadows, told.share_at_rate)
        rows.append((name, f"{cost:.3g}", *(f"{number:.3f}" for number in numbers)))
    title = f"{site}: {images} candidates, {draws} draws, m = {found.repeats}"
    columns = ("epsilon", "AUC", "AUC, shadows", "TPR at 1 % FPR")
    print_table(console, title, ("update", *columns), rows)


@app.command("reconstruction")
def reconstruction_command(
    site: Site,
    experiment: Experiment = "demo",
    settings: Overrides = None,
    others: Annotated[str, typer.Option(help="Seven plants whose updates are added.")] = "",
    steps: Annotated[int, typer.Option(help="Of the search.")] = 300,
    rate: Annotated[float, typer.Option(help="Of the search.")] = 0.05,
    smooth: Annotated[float, typer.Option(help="Weight of the pictures' total variation.")] = 1e-2,
    noises: Annotated[str, typer.Option(help="Multiples of the clipping norm.")] = "0.001,0.1",
    public: Annotated[str, typer.Option(help="A plant whose features the attacker knows.")] = "",
) -> None:
    """Search for the episode behind an update of one episode."""
    console = wide_console()
    print_machine(console)
    plant = _open(experiment, site, settings, None)
    seed, params = plant.experiment.seed, plant.method.initial(plant.experiment.seed)
    episode = _episode(plant)
    target = inversion.gradients(plant, params, episode).detach()
    clip = float(target.norm())
    targets: dict[str, Tensor] = {"as it is": target}
    for noise in map(float, noises.split(",")):
        targets[f"clipped, z = {noise:g}"] = inversion.noised(target, clip, noise, seed)
    rest = [_other(experiment, name, settings, params) for name in others.split(",") if name]
    if rest:
        targets[f"sum of {len(rest) + 1} clients"] = target + torch.stack(rest).sum(0)
    attempt = inversion.Attempt(steps, rate, smooth)
    score, decode, columns, baseline = _measure(plant, episode, experiment, settings, public)
    if not plant.encoder.tail.convolves:
        attempt = replace(attempt, smooth=0.0)
    rows: list[tuple[str, ...]] = [("best constant", *baseline, "")]
    for name, given in targets.items():
        *found, cosine = inversion.invert(plant, params, episode, given, attempt, decode, seed)
        rows.append((name, *(f"{value:.2f}" for value in score(*found)), f"{cosine:.3f}"))
        console.print(*rows[-1], sep="  ")
    generator = torch_stream(seed, "blind")
    start = [
        torch.randn(x.shape[1:], generator=generator) for x in (episode.support, episode.query)
    ]
    blind = [decode(attempt.spread * x) for x in start]
    rows.append(("start, no update", *(f"{value:.2f}" for value in score(*blind)), ""))
    sizes = f"{episode.support.shape[1]} supports, {episode.query.shape[1]} queries"
    print_table(console, f"{site}: one episode of {sizes}", ("update", *columns, "gradients"), rows)


Score = Callable[[Tensor, Tensor], tuple[float, float]]


def _measure(
    plant: Plant, episode: EpisodeBatch, experiment: str, settings: list[str] | None, public: str
) -> tuple[Score, Callable[[Tensor], Tensor], tuple[str, str], tuple[str, str]]:
    """Return how a find is scored and made, in pictures or in features."""
    true = episode.support[0], episode.query[0]
    if plant.encoder.tail.convolves:
        constant = tuple(f"{inversion.constant_psnr(x):.2f}" for x in true)
        return (
            lambda s, q: (inversion.psnr(s, true[0]), inversion.psnr(q, true[1])),
            lambda free: 255 * free.sigmoid(),
            ("PSNR of supports", "PSNR of queries"),
            (constant[0], constant[1]),
        )
    known = _open(experiment, public or plant.pools.site, settings, 16)
    tokens = _episode(known).support[0].float().flatten(0, 1)
    mean, spread = tokens.mean(0), tokens.std(0)
    constant = tuple(f"{inversion.constant_likeness(x, mean):.2f}" for x in true)
    return (
        lambda s, q: (
            inversion.likeness(s, true[0], mean),
            inversion.likeness(q, true[1], mean),
        ),
        lambda free: mean + spread * free,
        ("cosine of supports", "cosine of queries"),
        (constant[0], constant[1]),
    )


def _episode(plant: Plant) -> EpisodeBatch:
    sampler = plant.sampler(plant.pools.train_good, plant.pools.train_anomalies)
    return sampler.episode(stream(plant.experiment.seed, "attacked", plant.pools.site))


def _other(experiment: str, name: str, settings: list[str] | None, params: Params) -> Tensor:
    plant = _open(experiment, name, settings, None)
    return inversion.gradients(plant, params, _episode(plant)).detach()


if __name__ == "__main__":
    app()
