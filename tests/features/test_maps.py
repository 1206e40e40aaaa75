from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bayfed.features.conv4 import Conv4
from bayfed.features.maps import align, pooled, smooth, to_tokens
from bayfed.features.preprocess import resized, token_mask
from bayfed.seeds import torch_stream

QUICK = settings(max_examples=25, deadline=None, derandomize=True)


def _maps(*shape: int):
    return torch.randn(shape, generator=torch_stream(0, "maps", *shape))


@pytest.mark.parametrize("side", [1, 3, 5])
def test_smoothing_is_the_mean_of_a_window_padded_with_zeros(side):
    maps = _maps(1, 2, 6, 5)
    padded = np.pad(maps.numpy(), ((0, 0), (0, 0), (side // 2,) * 2, (side // 2,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (2, 3))
    np.testing.assert_allclose(smooth(maps, side), windows.mean((-1, -2)), atol=1e-6)


def test_a_map_on_the_grid_is_left_as_it_is_and_others_join_it():
    fine, coarse = _maps(2, 3, 4, 4), torch.full((2, 1, 2, 2), 7.0)
    both = align([fine, coarse], 4, 1)
    assert torch.equal(both[:, :3], fine)
    assert torch.equal(both[:, 3:], torch.full((2, 1, 4, 4), 7.0))


def test_tokens_are_row_by_row():
    maps = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert to_tokens(maps).flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_pooling_is_the_mean_over_positions():
    one, other = _maps(3, 2, 4, 5), _maps(3, 4, 2, 2)
    expected = np.concatenate([m.numpy().mean((2, 3)) for m in (one, other)], axis=1)
    np.testing.assert_allclose(pooled([one, other])[:, 0], expected, atol=1e-6)


@QUICK
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(0, 10**6))
def test_a_defect_of_one_pixel_marks_a_token_that_covers_it(height, width, grid, place):
    mask = np.zeros((height, width), bool)
    row, column = divmod(place % mask.size, width)
    mask[row, column] = True
    marked = token_mask(mask, grid).reshape(grid, grid)
    assert marked[int((row + 0.5) * grid / height), int((column + 0.5) * grid / width)] == 1
    for i, j in marked.nonzero().tolist():
        assert i * height / grid - 1 < row < (i + 1) * height / grid + 1
        assert j * width / grid - 1 < column < (j + 1) * width / grid + 1


def test_an_empty_mask_marks_nothing():
    assert token_mask(np.zeros((9, 7), bool), 3).sum() == 0


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (300, 7)])
def test_any_picture_becomes_a_square_of_bytes(shape):
    result = resized(np.full((*shape, 3), 200, np.uint8), (32, 32))
    assert result.shape == (3, 32, 32)
    assert result.dtype == torch.uint8
    assert (result == 200).all()


def test_conv4_treats_each_image_alone():
    network = Conv4(8, (1, 3))
    images = _maps(4, 3, 32, 32)
    for whole, alone in zip(network(images), network(images[2:3]), strict=True):
        torch.testing.assert_close(whole[2:3], alone)
