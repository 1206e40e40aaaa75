"""What holds for every untrained system."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bayfed.config import parse_experiment
from bayfed.errors import ProtocolError
from bayfed.methods import TrainableMethod, build_method
from bayfed.seeds import torch_stream
from tests import toys

CHANNELS, GRID = 12, 3
PATCH: list[dict[str, Any]] = [
    {"name": "patchcore", "coreset": 0.4, "neighbours": 3},
    {"name": "patchcore", "projection": 5},
    {"name": "patchcore", "neighbours": None},
    {"name": "anomalydino", "turns": 1},
    {"name": "anomalydino", "turns": 4},
    {"name": "padim", "channels": 7},
    {"name": "padim", "channels": None},
    {"name": "pca", "top_k": 0.3},
]
IMAGE: list[dict[str, Any]] = [{"name": "mahalanobis"}, {"name": "pca", "grain": "image"}]
EVERY = [*((s, GRID) for s in PATCH), *((s, 1) for s in IMAGE)]
NAMES = [" ".join(map(str, s.values())) for s, _ in EVERY]
systems = pytest.mark.parametrize(("settings", "grid"), EVERY, ids=NAMES)


def build(settings: dict[str, Any], grid: int, channels: int = CHANNELS) -> Any:
    experiment = parse_experiment({"method": settings, "federation": {"rounds": 0}})
    return build_method(experiment.method, toys.encoder(channels, grid))


def tokens(images: int, grid: int, key: str = "tokens") -> torch.Tensor:
    """Correlated tokens, which lie around another place at each position."""
    generator = torch_stream(0, key, images, grid)
    mix = 0.2 * torch.randn(CHANNELS, CHANNELS, generator=torch_stream(0, "mix"))
    return torch.randn(images, grid**2, CHANNELS, generator=generator) @ mix + places(grid)


def places(grid: int) -> torch.Tensor:
    return 3 * torch.randn(grid**2, CHANNELS, generator=torch_stream(0, "place"))


def support(method: Any, grid: int, images: int = 5) -> torch.Tensor:
    return tokens(images * len(method.poses), grid, "support")


@systems
def test_each_support_image_is_scored_as_a_query_of_the_others(settings, grid):
    method = build(settings, grid)
    params = method.initial(0)
    whole = support(method, grid)
    images = whole.reshape(5, len(method.poses), *whole.shape[1:])
    found = method.support_scores(method.adapt(params, whole))
    for i, image in enumerate(images):
        others = torch.cat([images[:i], images[i + 1 :]]).flatten(0, 1)
        expected = method.score(method.adapt(params, others), image[:1]).image
        torch.testing.assert_close(found[i : i + 1], expected, rtol=1e-4, atol=1e-5)


@systems
def test_the_order_of_the_support_does_not_matter(settings, grid):
    method = build(settings, grid)
    params, query = method.initial(0), tokens(4, grid, "query")
    whole = support(method, grid)
    images = whole.reshape(5, len(method.poses), *whole.shape[1:])
    order = torch.tensor([3, 0, 4, 1, 2])
    one, other = method.adapt(params, whole), method.adapt(params, images[order].flatten(0, 1))
    expected, found = method.score(one, query), method.score(other, query)
    torch.testing.assert_close(found.image, expected.image, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        method.support_scores(other), method.support_scores(one)[order], rtol=1e-4, atol=1e-4
    )


@systems
def test_scores_do_not_depend_on_what_is_scored_beside(settings, grid):
    method = build(settings, grid)
    adapted = method.adapt(method.initial(0), support(method, grid))
    query = tokens(6, grid, "query")
    together = method.score(adapted, query)
    alone = [method.score(adapted, image[None]) for image in query]
    # A residual is the small difference of large squares, whose last digits are the processor's.
    bounds = {"rtol": 1e-4, "atol": 1e-4} if settings["name"] == "pca" else {}
    torch.testing.assert_close(together.image, torch.cat([s.image for s in alone]), **bounds)
    if grid > 1:
        torch.testing.assert_close(together.tokens, torch.cat([s.tokens for s in alone]), **bounds)


@systems
def test_what_moves_away_from_the_support_scores_higher(settings, grid):
    method = build(settings, grid)
    adapted = method.adapt(method.initial(0), support(method, grid))
    good = tokens(8, grid, "query")
    bad = good.clone()
    bad[:, 0] += 40 * torch.linalg.svd(places(grid)).Vh[-1]  # orthogonal to every place
    assert method.score(adapted, bad).image.min() > method.score(adapted, good).image.max()
    if grid > 1:
        assert (method.score(adapted, bad).tokens.argmax(-1) == 0).all()


@systems
def test_what_a_system_says_of_itself(settings, grid):
    method = build(settings, grid)
    assert method.name == settings["name"]
    assert method.localises == (grid > 1)
    assert not isinstance(method, TrainableMethod)
    adapted = method.adapt(method.initial(0), support(method, grid))
    scores = method.score(adapted, tokens(2, grid))
    assert scores.image.shape == (2,)
    assert (scores.tokens is None) == (grid == 1)
    assert scores.log_odds is None
    assert scores.p_value is None
    assert method.size(adapted) == sum(4 * t.numel() for t in adapted.model)


@systems
def test_a_seed_gives_the_same_system_and_draws_are_among_its_parameters(settings, grid):
    method, again = build(settings, grid), build(settings, grid)
    one, other = method.initial(3), again.initial(3)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    whole, query = support(method, grid), tokens(2, grid)
    first = method.score(method.adapt(one, whole), query)
    torch.testing.assert_close(again.score(again.adapt(one, whole), query), first, rtol=0, atol=0)


@systems
def test_one_image_can_be_fitted_but_not_left_out(settings, grid):
    method = build(settings, grid)
    adapted = method.adapt(method.initial(0), support(method, grid, images=1))
    assert method.score(adapted, tokens(2, grid)).image.isfinite().all()
    with pytest.raises(ProtocolError, match=f"^{method.name}: a support of one image"):
        method.support_scores(adapted)


@systems
@pytest.mark.parametrize("images", [2, 3])
def test_few_and_equal_images_give_finite_scores(settings, grid, images):
    method = build(settings, grid)
    few = support(method, grid, images)
    same = few[:1].expand_as(few).clone()
    for whole in (few, same):
        adapted = method.adapt(method.initial(0), whole)
        assert method.score(adapted, tokens(2, grid)).image.isfinite().all()
        assert method.support_scores(adapted).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "variant"),
    [
        ({"name": "patchcore"}, None),
        ({"name": "patchcore", "coreset": 1.0, "neighbours": None}, "coreset 1.0, neighbours None"),
        ({"name": "anomalydino", "turns": 1}, "turns 1"),
        ({"name": "pca", "grain": "image"}, None),
    ],
)
def test_unusual_settings_name_the_variant(settings, variant):
    assert build(settings, 1).variant == variant
