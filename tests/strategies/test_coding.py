from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from strategies.coding import BLOCK, gaps, indices, quantise, restore

FINITE = st.floats(-1e6, 1e6, width=32)
VECTORS = st.integers(1, 700).flatmap(lambda size: arrays(np.float32, size, elements=FINITE))


@given(VECTORS, st.sampled_from([2, 4, 8, 16]), st.integers(0, 700))
def test_no_value_is_further_from_itself_than_one_step_of_its_block(
    values: np.ndarray, bits: int, cut: int
) -> None:
    parts = [p for p in (min(cut, values.size), max(0, values.size - cut)) if p]
    codes, scales = quantise(values, parts, bits, np.random.default_rng(0))
    assert codes.size == int(np.ceil(values.size * bits / 8))
    found, start, step = restore(codes, scales, parts, bits), 0, 2 ** (bits - 1) - 1
    for part in parts:
        for first in range(start, start + part, BLOCK):
            block = slice(first, min(first + BLOCK, start + part))
            largest = np.abs(values[block]).max()
            assert np.abs(found[block] - values[block]).max() <= largest / step * 1.0001 + 1e-30
        start += part


@given(VECTORS)
def test_a_sign_comes_with_the_mean_of_its_block(values: np.ndarray) -> None:
    codes, scales = quantise(values, [values.size], 1, np.random.default_rng(0))
    found = restore(codes, scales, [values.size], 1)
    means = [np.abs(values[i : i + BLOCK]).mean() for i in range(0, values.size, BLOCK)]
    expected = np.where(values > 0, 1, -1) * np.repeat(means, BLOCK)[: values.size]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding_has_no_bias(bits: int) -> None:
    values = np.linspace(-1, 1, 11, dtype=np.float32)
    random = np.random.default_rng(0)
    draws = [restore(*quantise(values, [11], bits, random), [11], bits) for _ in range(4000)]
    np.testing.assert_allclose(np.mean(draws, axis=0), values, atol=0.03 * 4 / 2**bits * 4)


def test_parts_share_no_scale() -> None:
    values = np.array([1e6, 1e-6], dtype=np.float32)
    codes, scales = quantise(values, [1, 1], 8, np.random.default_rng(0))
    np.testing.assert_allclose(restore(codes, scales, [1, 1], 8), values, rtol=1e-6)


@given(st.sets(st.integers(0, 5000)))
def test_gaps_are_read_back(chosen: set[int]) -> None:
    rising = np.array(sorted(chosen), dtype=np.int64)
    coded = gaps(rising)
    assert coded.dtype == np.uint8
    np.testing.assert_array_equal(indices(coded, rising.size, 5001), rising)


@pytest.mark.parametrize(
    ("coded", "count", "size"), [([0, 0], 3, 9), ([255], 0, 9), ([0, 9], 2, 9), ([255, 0], 1, 255)]
)
def test_indices_that_do_not_fit_are_refused(coded: list[int], count: int, size: int) -> None:
    with pytest.raises(ValueError, match="ind"):
        indices(np.array(coded, dtype=np.uint8), count, size)


@pytest.mark.parametrize(
    ("codes", "scales"),
    [([0], [1.0, 1.0]), ([0, 0], [1.0]), ([255], [1.0]), ([0], [-1.0]), ([0], [float("inf")])],
)
def test_codes_that_do_not_fit_are_refused(codes: list[int], scales: list[float]) -> None:
    with pytest.raises(ValueError, match=r"scale|grid"):
        restore(np.array(codes, dtype=np.uint8), np.array(scales, dtype=np.float32), [1], 8)
