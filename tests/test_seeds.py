from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bayfed.seeds import stream, torch_stream

QUICK = settings(max_examples=20, deadline=None, derandomize=True)
keys = st.lists(st.integers(-5, 5) | st.text(max_size=3), max_size=3).map(tuple)


def numbers(seed, *key):
    return stream(seed, *key).integers(0, 1 << 62, 2).tolist()


@QUICK
@given(st.integers(0, 1 << 70), keys, st.integers(0, 3), keys)
def test_two_streams_are_equal_exactly_when_seed_and_key_are(seed, key, other_seed, other_key):
    assert numbers(seed, *key) == numbers(seed, *key)
    same = (seed, key) == (other_seed, other_key)
    assert (numbers(seed, *key) == numbers(other_seed, *other_key)) == same


@pytest.mark.parametrize(
    ("one", "other"), [(("a", "b"), ("ab",)), ((1, 2), (12,)), ((1,), ("1",)), ((), ("",))]
)
def test_parts_do_not_run_together(one, other):
    assert numbers(0, *one) != numbers(0, *other)


def test_the_order_of_calls_does_not_matter():
    first = [numbers(0, name) for name in "abc"]
    assert [numbers(0, name) for name in "cba"] == first[::-1]


def test_numpy_integers_are_integers():
    assert numbers(np.int64(3), np.int32(4)) == numbers(3, 4)


def test_the_global_streams_neither_give_nor_take():
    states = np.random.get_state()[1].copy(), torch.random.get_rng_state()  # noqa: NPY002
    first = numbers(0, "x"), torch.rand(2, generator=torch_stream(0, "x"))
    assert np.array_equal(np.random.get_state()[1], states[0])  # noqa: NPY002
    assert torch.equal(torch.random.get_rng_state(), states[1])
    torch.manual_seed(9)
    assert numbers(0, "x") == first[0]
    assert torch.equal(torch.rand(2, generator=torch_stream(0, "x")), first[1])


def test_values_are_pinned_so_that_old_runs_can_be_repeated():
    assert stream(0, "episodes", 1, "bolt_00", 0).integers(1000, size=3).tolist() == [118, 785, 938]
