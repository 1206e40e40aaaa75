"""What a token stands in, and views on grids of their own."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bayfed.config import Experiment
from bayfed.errors import ConfigError
from bayfed.features import build_encoder
from bayfed.features.contrast import SHARE, ContrastTail, surroundings
from bayfed.features.tail import IdentityTail
from bayfed.features.views import JoinedTail, PartTail, pack, refine, to_maps
from bayfed.seeds import torch_stream
from tests import toys

CPU = torch.device("cpu")
WIDE = {"layer": "blocks.5.0.bn1", "channels": 8, "coarser": 2}


def tokens(number, side, channels):
    return torch.randn(number, side**2, channels, generator=torch_stream(side, "tokens"))


@pytest.mark.parametrize(("side", "distance"), [(5, 1), (6, 2), (4, 9)])
def test_surroundings_are_the_eight_tokens_at_a_distance(side, distance):
    given = tokens(2, side, 3)
    maps = given.reshape(2, side, side, 3).numpy()
    expected = np.zeros_like(maps)
    steps = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]
    for i in range(side):
        for j in range(side):
            for a, b in steps:
                row = min(max(i + a * distance, 0), side - 1)
                column = min(max(j + b * distance, 0), side - 1)
                expected[:, i, j] += maps[:, row, column] / 8
    found = surroundings(given, distance)
    np.testing.assert_allclose(found.reshape(maps.shape), expected, atol=1e-6)
    tail = ContrastTail(IdentityTail(3), distance)
    np.testing.assert_allclose(
        tail({SHARE: torch.tensor(0.7)}, given).reshape(maps.shape),
        maps - 0.7 * expected,
        atol=1e-6,
    )


def test_the_whole_contrast_ignores_what_a_picture_has_everywhere():
    tail = ContrastTail(IdentityTail(3), 2)
    params = tail.initial(torch_stream(0))
    given = tokens(2, 5, 3)
    assert torch.equal(tail(params, given), given)
    params[SHARE] = torch.ones(())
    torch.testing.assert_close(tail(params, given + 7), tail(params, given))


def test_a_share_is_learned():
    tail = ContrastTail(IdentityTail(2), 1)
    params = {k: v.requires_grad_() for k, v in tail.initial(torch_stream(0)).items()}
    tail(params, tokens(1, 3, 2)).square().sum().backward()
    assert params[SHARE].grad.abs() > 0


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_packed_map_comes_back_as_it_was(factor):
    coarse = torch.randn(2, 18 * 4, 2, 2, generator=torch_stream(1))
    packed = pack(coarse, factor).flatten(2).mT
    beside = torch.cat([torch.zeros(*packed.shape[:2], 3), packed], -1)
    tail = PartTail(3, beside.shape[-1], factor)
    assert tail.channels == 72
    assert tail.convolves == (factor > 1)
    assert torch.equal(to_maps(tail({}, beside)), coarse)


def test_other_methods_see_coarse_views_interpolated():
    fine, coarse = tokens(2, 4, 3), torch.randn(2, 8, 2, 2, generator=torch_stream(2))
    stored = torch.cat([fine, pack(coarse, 2).flatten(2).mT], -1)
    tail = JoinedTail((PartTail(0, 3), PartTail(3, 5, 2)))
    assert tail.channels == 11
    found = tail({}, stored)
    assert torch.equal(found[..., :3], fine)
    bilinear = F.interpolate(coarse, (4, 4), mode="bilinear")
    torch.testing.assert_close(to_maps(found[..., 3:]), bilinear)


def test_a_map_of_scores_is_interpolated_to_the_finer_grid():
    values = torch.randn(2, 4, generator=torch_stream(3))
    expected = F.interpolate(values.reshape(2, 1, 2, 2), (4, 4), mode="bilinear").flatten(1)
    assert torch.equal(refine(values, 16), expected)
    assert refine(values, 4) is values


def experiment(**backbone) -> Experiment:
    tree = {"name": "mobilenetv2_035", "stages": (2, 3), "image_size": 64, "grid": 4}
    return toys.experiment(backbone={**tree, "trainable": "head", **backbone})


def test_the_stages_are_the_same_beside_a_wide_layer_and_the_wide_one_on_its_own_grid():
    plain, both = (build_encoder(experiment(**wide), CPU) for wide in ({}, {"wide": WIDE}))
    pictures = torch.randint(
        0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch_stream(0, "pictures")
    )
    stored = both.trunk(pictures)
    stages, wide = (view.tail({}, stored) for view in both.views)
    assert [view.grid for view in both.views] == [4, 2]
    torch.testing.assert_close(stages, plain.tail({}, plain.trunk(pictures)))
    assert wide.shape == (2, 4, 8)
    network = both.trunk.backbone.network
    maps = network(both.trunk.backbone.normalise(pictures))[-1]
    smooth = F.avg_pool2d(maps, 3, 1, 1)
    expected = F.interpolate(smooth, (2, 2), mode="bilinear", align_corners=False)
    torch.testing.assert_close(to_maps(wide), expected, rtol=1e-3, atol=1e-4)
    assert both.tail.convolves
    assert both.tail.channels == plain.tail.channels + 8


@pytest.mark.parametrize(
    ("wide", "said"),
    [
        ({"coarser": 3}, r"wide\.coarser must divide backbone\.grid, 4"),
        ({"channels": 6}, r"wide\.channels must be a multiple"),
    ],
)
def test_a_grid_that_does_not_fit_is_one_line(wide, said):
    with pytest.raises(ConfigError, match=said):
        experiment(wide=WIDE | wide)


def test_contrast_needs_tokens_that_nothing_moves():
    with pytest.raises(ConfigError, match=r"backbone\.contrast need"):
        toys.experiment(backbone={"contrast": {}})
