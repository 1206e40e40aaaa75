from __future__ import annotations

import pytest
import torch

from bayfed.config import Backbone
from bayfed.errors import ConfigError
from bayfed.features import build_encoder, resolve_device
from bayfed.features.backbone import build_backbone
from bayfed.seeds import torch_stream
from tests import toys

CPU = torch.device("cpu")


def build(seed: int = 0, **settings):
    return build_backbone(Backbone(**settings), torch_stream(seed, "backbone"))


@pytest.mark.parametrize("name", ["no_such_net", "hf-hub:someone/something", ""])
def test_an_unknown_backbone_is_one_line_that_names_it(name):
    with pytest.raises(ConfigError, match=r"^backbone\.name: unknown backbone .*$") as caught:
        build(name=name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["conv4", toys.TIMM])
@pytest.mark.parametrize("stages", [(), (9,), (1, 9)])
def test_stages_that_are_not_there_are_one_line_that_names_the_key(name, stages):
    with pytest.raises(ConfigError, match=r"^backbone\.stages: .*$"):
        build(name=name, stages=stages)


def test_a_width_that_group_norm_cannot_divide_is_refused():
    with pytest.raises(ConfigError, match=r"^backbone\.width: "):
        build(name="conv4", width=6)


@pytest.mark.parametrize("name", ["conv4", toys.TIMM])
@pytest.mark.parametrize("stages", [(1,), (0, 2), (1, 2, 3)])
def test_channels_are_those_of_the_maps(name, stages):
    backbone = build(name=name, stages=stages, width=8)
    maps = backbone.network(torch.zeros(1, 3, 64, 64))
    assert tuple(m.shape[1] for m in maps) == backbone.channels


@pytest.mark.parametrize("name", ["conv4", toys.TIMM, "test_vit"])
def test_a_seed_decides_the_weights_and_the_global_stream_neither_gives_nor_takes(name):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = build(5, name=name)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    same, other = build(5, name=name), build(6, name=name)
    first, second = one.network.state_dict(), same.network.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    changed = other.network.state_dict()
    assert any(not torch.equal(first[key], changed[key]) for key in first)


def test_drawn_weights_of_two_seeds_have_two_identities():
    one, same, other = (build(seed, name=toys.TIMM) for seed in (0, 0, 1))
    assert one.identity == same.identity != other.identity


def test_normalisation_by_hand():
    backbone = build(name="conv4")
    pixels = torch.tensor([0, 128, 255], dtype=torch.uint8).reshape(1, 3, 1, 1)
    expected = [-2.0, (128 / 255 - 0.5) / 0.25, 2.0]
    found = backbone.normalise(pixels).flatten().tolist()
    assert found == pytest.approx(expected, abs=1e-5)


def test_batch_statistics_are_frozen():
    network = build(name=toys.TIMM).network
    assert not any(module.training for module in network.modules())
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network(torch.randn(2, 3, 32, 32, generator=torch_stream(0)))
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("trainable", ["head", "adapters"])
def test_conv4_has_nothing_to_freeze(trainable):
    settings = toys.experiment(backbone={"trainable": trainable})
    with pytest.raises(ConfigError, match=r"^backbone\.trainable: "):
        build_encoder(settings, CPU)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert resolve_device("auto") == CPU
    with pytest.raises(ConfigError, match=r"^device: "):
        resolve_device("cuda")


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": {"image_size": 64}},
        {"backbone": {"grid": 5}},
        {"backbone": {"smoothing": 1}},
        {"backbone": {"stages": [1]}},
        {"backbone": {"trainable": "adapters"}},
        {"backbone": {"name": "test_resnet"}},
        {"method": {"grain": "image"}},
        {"seed": 1},
    ],
    ids=str,
)
def test_what_decides_the_outputs_decides_the_fingerprint(change):
    frozen = {"name": toys.TIMM, "trainable": "head"}
    base = toys.experiment(backbone=frozen)
    other = toys.experiment(**{**change, "backbone": {**frozen, **change.get("backbone", {})}})
    prints = [build_encoder(e, CPU).trunk.fingerprint for e in (base, base, other)]
    assert prints[0] == prints[1] != prints[2]


def test_pictures_kept_for_a_trainable_network_depend_on_their_size_alone():
    prints = {
        build_encoder(toys.experiment(backbone=change, seed=seed), CPU).trunk.fingerprint
        for seed, change in enumerate(({}, {"grid": 2}, {"width": 8}, {"stages": [2]}))
    }
    assert len(prints) == 1
