"""A second view from inside the backbone."""

import pytest
import timm
import torch

from bayfed.config import Backbone
from bayfed.errors import ConfigError
from bayfed.features.backbone import build_backbone
from bayfed.seeds import torch_stream

NAME = "mobilenetv2_035"
LAYER = "blocks.5.0.bn1"


def build(layer=LAYER, channels=8, **settings):
    tree = {"name": NAME, "stages": (2, 3), "image_size": 64, "trainable": "head"}
    wide = {"layer": layer, "channels": channels}
    return build_backbone(
        Backbone(**{**tree, "wide": wide, **settings}), torch_stream(0, "backbone")
    )


def test_the_stages_are_those_of_the_network_and_the_view_is_a_projection_of_the_layer():
    backbone = build()
    matrix = backbone.network.projection[..., 0, 0].clone()
    backbone.network.double()  # single precision differs from processor to processor
    plain = build_backbone(
        Backbone(name=NAME, stages=(2, 3), image_size=64, trainable="head"),
        torch_stream(0, "backbone"),
    )
    images = torch.rand(2, 3, 96, 48, generator=torch_stream(0, "images")).double()
    *stages, wide = backbone.network(images)
    whole = timm.create_model(NAME)
    whole.load_state_dict(backbone.network.model.state_dict(), strict=False)
    kept = {}
    module = dict(whole.double().eval().named_modules())[LAYER]
    module.register_forward_hook(lambda *call: kept.update(map=call[2]))
    with torch.no_grad():
        expected = whole.forward_intermediates(images, indices=[2, 3, 4], intermediates_only=True)
    for found, wanted in zip(stages, expected[:2], strict=True):
        torch.testing.assert_close(found, wanted)
    assert backbone.channels == (*plain.channels, 8)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(8))
    torch.testing.assert_close(wide, torch.einsum("dc,nchw->ndhw", matrix.double(), kept["map"]))
    assert backbone.identity != plain.identity
    assert torch.equal(matrix, build().network.projection[..., 0, 0])


@pytest.mark.parametrize(
    ("layer", "channels", "said"),
    [
        ("blocks.99", 8, r"wide\.layer: the backbone has no layer 'blocks\.99'"),
        ("", 8, r"wide\.layer: the backbone has no layer ''"),
        ("blocks.2", 8, r"wide\.layer: 'blocks\.2' is one of backbone\.stages"),
        ("classifier", 8, r"wide\.layer: 'classifier' gives no map"),
        (LAYER, 5000, r"wide\.channels: .* not 5000"),
    ],
)
def test_a_layer_that_cannot_be_had_is_one_line_that_names_the_key(layer, channels, said):
    with pytest.raises(ConfigError, match=said):
        build(layer, channels)


def test_a_stage_that_is_not_there_is_named_beside_a_wide_layer_too():
    with pytest.raises(ConfigError, match=r"^backbone\.stages: "):
        build(stages=(2, 9))


def test_the_input_is_normalised_as_that_of_the_model_that_is_not_cut_up():
    name = "tf_efficientnet_lite0"
    plain = build_backbone(
        Backbone(name=name, stages=(2,), image_size=64, trainable="head"), torch_stream(0, "b")
    )
    assert plain.mean == (0.5, 0.5, 0.5)
    cut = build(layer="blocks.3.0.bn1", name=name, stages=(2,))
    assert (cut.mean, cut.std) == (plain.mean, plain.std)
