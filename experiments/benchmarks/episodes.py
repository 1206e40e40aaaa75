"""Training episodes: batched against one by one, and against the full-gradient ResNet-18.

python -m experiments.benchmarks.episodes --threads 2
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Annotated, Any
from unittest.mock import patch

import torch
import typer
from rich.console import Console
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from bayfed.config import BayPrAnoMeta as Settings
from bayfed.episodes.episode import EpisodeBatch
from bayfed.features import Encoder
from bayfed.features.tail import IdentityTail
from bayfed.features.trunk import IdentityTrunk
from bayfed.methods.baypranometa import BayPrAnoMeta
from bayfed.seeds import torch_stream
from experiments.benchmarks.measure import (
    Sample,
    goal,
    print_machine,
    print_table,
    time_rivals,
    wide_console,
)
from experiments.benchmarks.paper_episode import PaperEpisode

SHOTS, NORMALS, DEFECTS = 5, 8, 8
QUERIES = NORMALS + DEFECTS
BATCHING_GOAL, PATCH_GOAL_MS, RATIO_GOAL = 5.0, 25.0, 80.0
PAPER = "ResNet-18"
IMAGE_GRAIN: dict[str, Any] = {
    "grain": "image",
    "embedding": 128,
    "normalise": True,
    "inner": {"steps": 1, "objective": "predictive", "volume": False},
}
PATCH_GRAIN: dict[str, dict[str, Any]] = {
    "patch grain": {"embedding": 64, "inner": {"objective": "predictive"}},
    "leave-one-out": {"embedding": 64, "inner": {"objective": "leave-one-out"}},
    "first order": {"embedding": 64, "inner": {"objective": "predictive", "order": "first"}},
    "head 128 (identity)": {"inner": {"objective": "predictive"}},
}
"""Variants of three inner steps; the first is the one that has a goal."""


def main(
    threads: Annotated[int, typer.Option(help="Torch threads.")] = 2,
    repeats: Annotated[int, typer.Option(help="Measurements behind a median.")] = 7,
    image_episodes: Annotated[int, typer.Option(help="Batch at the image grain.")] = 32,
    patch_episodes: Annotated[int, typer.Option(help="Batch at the patch grain.")] = 10,
    features: Annotated[int, typer.Option(help="Pooled channels at the image grain.")] = 512,
    tokens: Annotated[int, typer.Option(help="Tokens an image at the patch grain.")] = 196,
    channels: Annotated[int, typer.Option(help="Channels of a token.")] = 128,
    pixels: Annotated[int, typer.Option(help="Side of the pictures of the ResNet-18.")] = 224,
) -> None:
    """Measure the gradient of a batch of episodes at both grains."""
    torch.set_num_threads(threads)
    console = wide_console()
    print_machine(console)
    image_grain(console, repeats, image_episodes, features)
    patch_grain(console, repeats, patch_episodes, (tokens, channels), pixels)


def image_grain(console: Console, repeats: int, episodes: int, features: int) -> None:
    """Compare one batch with the same episodes one by one."""
    method = method_of(IMAGE_GRAIN, features, grid=1)
    step = step_of(method, batch_of(episodes, 1, features))

    def one_by_one() -> None:
        with patch("bayfed.methods.baypranometa.vmap", loop):
            step()

    seconds = time_rivals({"batched": step, "one by one": one_by_one}, repeats)
    slow = seconds["one by one"].median
    rows = [
        (name, *cells(sample.scaled(1000 / episodes)), f"{slow / sample.median:.1f}")
        for name, sample in seconds.items()
    ]
    headings = ("image grain", "ms an episode", "episodes/s", "times faster")
    print_table(console, f"{episodes} episodes, {features} channels", headings, rows)
    gain = slow / seconds["batched"].median
    console.print(f"batched: {goal(gain, BATCHING_GOAL, 'times', at_least=True, digits=1)}")


def patch_grain(
    console: Console, repeats: int, episodes: int, size: tuple[int, int], pixels: int
) -> None:
    """Compare variants of the patch grain with the published episode."""
    tokens, channels = size
    batch = batch_of(episodes, tokens, channels)
    rivals: dict[str, Callable[[], object]] = {
        name: step_of(method_of(settings, channels, grid=2), batch)
        for name, settings in PATCH_GRAIN.items()
    }
    seconds = {
        name: sample.scaled(1 / episodes) for name, sample in time_rivals(rivals, repeats).items()
    }
    seconds |= time_rivals({PAPER: paper_step(pixels)}, repeats)
    paper = seconds[PAPER].median
    rows = [
        (name, *cells(sample.scaled(1000)), f"{paper / sample.median:.0f}")
        for name, sample in seconds.items()
    ]
    headings = ("patch grain", "ms an episode", "episodes/s", "times faster")
    title = f"{episodes} episodes, {tokens} tokens of {channels} channels; ResNet-18: {pixels} px"
    print_table(console, title, headings, rows)
    own = seconds[next(iter(PATCH_GRAIN))].median
    console.print(f"an episode: {goal(1000 * own, PATCH_GOAL_MS, 'ms', digits=1)}")
    console.print(f"ratio: {goal(paper / own, RATIO_GOAL, 'times', at_least=True)}")


def cells(milliseconds: Sample) -> tuple[str, str]:
    """Return the time of an episode and the episodes a second."""
    return milliseconds.text(), f"{1000 / milliseconds.median:.1f}"


def method_of(settings: dict[str, Any], channels: int, grid: int) -> BayPrAnoMeta:
    """Build the method on tokens of ``channels``; every part of its loss is on."""
    full = Settings.model_validate({**settings, "loss": {"contrastive": 0.1, "dense": 1.0}})
    if full.embedding is not None and full.embedding > channels:
        full = full.model_copy(update={"embedding": None})
    return BayPrAnoMeta(full, Encoder(IdentityTrunk(224), IdentityTail(channels), grid, 224))


def batch_of(episodes: int, tokens: int, channels: int) -> EpisodeBatch:
    """Draw episodes of random float16 tokens, the dtype of the store."""
    generator = torch_stream(0, "benchmark", episodes, tokens, channels)

    def draw(images: int) -> Tensor:
        return torch.randn(episodes, images, tokens, channels, generator=generator).half()

    labels = torch.tensor([0.0] * NORMALS + [1.0] * DEFECTS).repeat(episodes, 1)
    marked = torch.rand(episodes, QUERIES, tokens, generator=generator) < 0.1
    masks = (marked & labels.bool()[..., None]).to(torch.uint8)
    return EpisodeBatch(draw(SHOTS), draw(QUERIES), labels, masks)


def step_of(method: BayPrAnoMeta, batch: EpisodeBatch) -> Callable[[], object]:
    """Return what a client does with a batch: the gradient for every meta-parameter."""
    params = {name: value.requires_grad_() for name, value in method.initial(0).items()}

    def step() -> object:
        loss, _ = method.loss(params, batch)
        return torch.autograd.grad(loss, list(params.values()), allow_unused=True)

    return step


def loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """Do what ``vmap`` does, one episode after the other.

    >>> loop(lambda x: (2 * x, {}))(torch.arange(3))[0].tolist()
    [0, 2, 4]
    """

    def run(*batched: Any) -> Any:
        number = len(tree_leaves(batched)[0])
        each = (tree_map(itemgetter(i), batched) for i in range(number))
        return tree_map(lambda *parts: torch.stack(parts), *(function(*one) for one in each))

    return run


def paper_step(pixels: int) -> Callable[[], object]:
    """Return the published episode on random pictures."""
    generator = torch_stream(0, "benchmark", "pictures", pixels)
    support = torch.randn(SHOTS, 3, pixels, pixels, generator=generator)
    query = torch.randn(QUERIES, 3, pixels, pixels, generator=generator)
    labels = torch.tensor([0.0] * NORMALS + [1.0] * DEFECTS)
    episode = PaperEpisode()
    return lambda: episode.step(support, query, labels)


if __name__ == "__main__":
    typer.run(main)
