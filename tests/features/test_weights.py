from __future__ import annotations

import json
import socket
import struct
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from bayfed.config import Backbone
from bayfed.errors import ConfigError, WeightsError
from bayfed.features.backbone import build_backbone
from bayfed.features.weights import inspect_weights
from bayfed.seeds import torch_stream
from tests import toys


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def build(path: Path, name: str = toys.TIMM, **settings):
    wanted = Backbone(name=name, weights=path, stages=toys.STAGES, **settings)
    return build_backbone(wanted, torch_stream(0, "backbone"))


def one_line(caught: pytest.ExceptionInfo[BaseException], *parts: object) -> None:
    text = str(caught.value)
    assert "\n" not in text
    assert all(str(part) in text for part in parts), text


@pytest.mark.usefixtures("no_network")
def test_weights_are_those_of_the_file_and_no_network_is_asked(tmp_path):
    path = toys.weights_file(tmp_path / "w.safetensors")
    backbone = build(path, pretrained=True)
    saved = load_file(path)
    own = backbone.network.model.state_dict()
    assert own
    assert all(torch.equal(value, saved[name]) for name, value in own.items())


def test_a_hub_that_cannot_be_reached_is_one_line_naming_the_backbone(monkeypatch):
    def unreachable(*_args, **_kwargs):
        raise OSError("no route to host\nsecond line")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(WeightsError) as caught:
        build_backbone(Backbone(name=toys.TIMM, pretrained=True), torch_stream(0))
    one_line(caught, toys.TIMM, "no route")


def test_metadata_decides_normalisation_and_construction(tmp_path):
    metadata = {
        "mean": "[0.1, 0.2, 0.3]",
        "std": "[0.5, 0.25, 1]",
        "create_kwargs": json.dumps({"pad_type": "same"}),
    }
    name = "test_efficientnet"
    path = toys.weights_file(tmp_path / "w.safetensors", name, metadata)
    backbone = build(path, name)
    pixels = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    expected = [(1 - 0.1) / 0.5, (1 - 0.2) / 0.25, (1 - 0.3) / 1]
    assert backbone.normalise(pixels)[0, :, 0, 0].tolist() == pytest.approx(expected)
    kinds = {type(module).__name__ for module in backbone.network.modules()}
    assert "Conv2dSame" in kinds


def test_without_metadata_the_mean_and_std_of_imagenet_hold(tmp_path):
    backbone = build(toys.weights_file(tmp_path / "w.safetensors"))
    assert backbone.mean == (0.485, 0.456, 0.406)
    assert backbone.std == (0.229, 0.224, 0.225)


def test_the_identity_follows_the_bytes_of_the_file(tmp_path):
    one = toys.weights_file(tmp_path / "one.safetensors")
    renamed = tmp_path / "renamed.safetensors"
    renamed.write_bytes(one.read_bytes())
    other = toys.weights_file(tmp_path / "other.safetensors", metadata={"mean": "[0, 0, 0]"})
    assert build(one).identity == build(renamed).identity != build(other).identity
    assert inspect_weights(one).sha256 == inspect_weights(renamed).sha256


def test_a_file_replaced_under_its_name_is_read_again(tmp_path):
    path = toys.weights_file(tmp_path / "w.safetensors")
    before = inspect_weights(path).sha256
    toys.weights_file(path, metadata={"note": "newer"})
    assert inspect_weights(path).sha256 != before


def test_weights_of_another_model_name_the_file_and_the_tensor(tmp_path):
    path = toys.weights_file(tmp_path / "resnet.safetensors", "test_resnet")
    with pytest.raises(WeightsError) as caught:
        build(path)
    one_line(caught, path, "weights of another model", "is missing")


def test_weights_of_another_width_name_the_file_and_the_shape(tmp_path):
    path = toys.weights_file(tmp_path / "w.safetensors")
    tensors = load_file(path)
    name = next(name for name, value in tensors.items() if value.ndim == 4)
    toys.save_file(tensors | {name: torch.zeros(1, 1, 1, 1)}, path)
    with pytest.raises(WeightsError) as caught:
        build(path)
    one_line(caught, path, "weights of another model", name, "(1, 1, 1, 1)")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_name_the_file_and_the_tensor(tmp_path, value):
    path = toys.weights_file(tmp_path / "w.safetensors")
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 4)
    tensors[name][0, 0, 0, 0] = value
    toys.save_file(tensors, path)
    with pytest.raises(WeightsError) as caught:
        build(path)
    one_line(caught, path, name, "NaN or Inf")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda data: data[: len(data) // 2], "safetensors"),
        (lambda data: data[:5], "safetensors"),
        (lambda _: b"", "safetensors"),
        (lambda _: b"\x80\x04K\x01." * 100, "safetensors"),
        (lambda data: struct.pack("<Q", 1 << 60) + data[8:], "safetensors"),
    ],
    ids=["half", "five bytes", "empty", "a pickle", "a header of an exabyte"],
)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, spoil, reason):
    path = toys.weights_file(tmp_path / "w.safetensors")
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(WeightsError) as caught:
        build(path)
    one_line(caught, path, reason)


@pytest.mark.parametrize("name", ["absent.safetensors", "."])
def test_a_missing_file_is_one_line_that_names_it(tmp_path, name):
    with pytest.raises(WeightsError) as caught:
        build(tmp_path / name)
    one_line(caught, tmp_path / name)


def test_a_file_above_the_limit_is_refused_unread(tmp_path):
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.truncate((2 << 30) + 1)
    with pytest.raises(WeightsError) as caught:
        build(path)
    one_line(caught, path, "larger than 2 GiB")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    "metadata",
    [
        {"mean": "[1, 2]"},
        {"mean": "5"},
        {"mean": "not json"},
        {"mean": '["a", "b", "c"]'},
        {"mean": "[NaN, 0, 0]"},
        {"std": "[0, 1, 1]"},
        {"std": "[-1, 1, 1]"},
        {"create_kwargs": "[1]"},
        {"create_kwargs": '{"checkpoint_path": "evil.pt"}'},
        {"create_kwargs": '{"pretrained_cfg_overlay": {"url": "x"}}'},
        {"create_kwargs": '{"pretrained": true}'},
        {"create_kwargs": '{"block_args": [1]}'},
        {"create_kwargs": "[" * 3000},
    ],
    ids=lambda metadata: str(metadata)[:40],
)
def test_hostile_metadata_is_refused(tmp_path, metadata):
    path = toys.weights_file(tmp_path / "w.safetensors", metadata=metadata)
    with pytest.raises(WeightsError) as caught:
        build(path)
    one_line(caught, path)


@pytest.mark.parametrize("kwargs", [{"no_such": 1}, {"features_only": False}])
def test_arguments_that_the_model_does_not_take_name_the_file(tmp_path, kwargs):
    path = toys.weights_file(
        tmp_path / "w.safetensors", metadata={"create_kwargs": json.dumps(kwargs)}
    )
    with pytest.raises(WeightsError) as caught:
        build(path)
    one_line(caught, path, "does not make a test_byobnet")


def test_conv4_takes_no_weights(tmp_path):
    with pytest.raises(ConfigError) as caught:
        build(toys.weights_file(tmp_path / "w.safetensors"), "conv4")
    one_line(caught, "backbone.weights")


def test_weights_of_another_content_are_refused(tmp_path: Path) -> None:
    path = toys.weights_file(tmp_path / "w.safetensors")
    found = inspect_weights(path).sha256
    assert inspect_weights(path, found).sha256 == found
    with pytest.raises(WeightsError) as caught:
        inspect_weights(path, "0" * 64)
    one_line(caught, "w.safetensors", "sha256", "expects 000000000000...")
