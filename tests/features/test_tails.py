from __future__ import annotations

import pytest
import torch

from bayfed.features import build_encoder
from bayfed.features.maps import pooled, to_tokens
from bayfed.features.tail import AdapterTail
from bayfed.seeds import torch_stream
from tests import toys

CPU = torch.device("cpu")
PICTURES = torch.randint(
    0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch_stream(0, "pictures")
)


def encoder(trainable: str, grain: str = "patch", **backbone):
    name = toys.TIMM if trainable != "all" else "conv4"
    settings = {"name": name, "trainable": trainable, **backbone}
    return build_encoder(toys.experiment(backbone=settings, method={"grain": grain}), CPU)


def run(made, params=None):
    params = made.tail.initial(torch_stream(0, "tail")) if params is None else params
    return made.tail(params, made.trunk(PICTURES))


@pytest.mark.parametrize("trainable", ["head", "adapters", "all"])
@pytest.mark.parametrize("grain", ["patch", "image"])
def test_tokens_have_the_shape_that_the_encoder_tells(trainable, grain):
    made = encoder(trainable, grain)
    tokens = run(made)
    assert tokens.shape == (2, made.grid**2, made.tail.channels)
    assert tokens.dtype == torch.float32
    assert made.grid == (4 if grain == "patch" else 1)


@pytest.mark.parametrize("pool", [False, True])
def test_adapters_start_exactly_at_the_untrained_features(pool):
    tail = AdapterTail(channels=6, pool=pool)
    maps = torch.randn(3, 6, 5, 5, generator=torch_stream(0))
    start = tail(tail.initial(torch_stream(1)), maps)
    assert torch.equal(start, pooled([maps]) if pool else to_tokens(maps))


@pytest.mark.parametrize("smoothing", [1, 3])
def test_adapters_start_at_the_features_of_a_frozen_backbone(smoothing):
    settings = {"grid": 4, "smoothing": smoothing}
    head, adapters = (encoder(trainable, **settings) for trainable in ("head", "adapters"))
    torch.testing.assert_close(run(adapters), run(head), rtol=0, atol=0)


def test_adapters_adapt():
    tail = AdapterTail(channels=4, pool=False)
    params = tail.initial(torch_stream(0))
    params["tail.up.weight"] = torch.ones_like(params["tail.up.weight"])
    maps = torch.randn(1, 4, 5, 5, generator=torch_stream(1))
    moved = tail(params, maps) - to_tokens(maps)
    assert moved.min() >= 0
    assert moved.max() > 0


def test_a_trainable_network_starts_as_the_frozen_one():
    frozen = encoder("head")
    settings = {"name": toys.TIMM, "trainable": "all"}
    free = build_encoder(toys.experiment(backbone=settings), CPU)
    torch.testing.assert_close(run(free), run(frozen), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("trainable", ["adapters", "all"])
def test_names_begin_with_tail_and_values_follow_the_seed(trainable):
    one, other = (encoder(trainable).tail.initial(torch_stream(3, "tail")) for _ in range(2))
    assert one
    assert all(name.startswith("tail.") for name in one)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_frozen_backbone_has_nothing_to_train():
    assert encoder("head").tail.initial(torch_stream(0)) == {}


def test_the_networks_own_tensors_are_not_changed_by_training():
    made = encoder("all")
    params = made.tail.initial(torch_stream(0))
    first = run(made, params)
    for value in params.values():
        value.mul_(0.5)
    assert not torch.equal(run(made, params), first)
    assert torch.equal(run(made), first)
