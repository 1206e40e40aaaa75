from __future__ import annotations

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord
from hypothesis import given
from hypothesis import strategies as st

from bayfed.errors import FederationError
from strategies import wire


@given(st.lists(st.integers(0, 4), max_size=3), st.sampled_from([torch.float32, torch.int64]))
def test_tensors_come_back_as_they_were(shape: list[int], dtype: torch.dtype) -> None:
    tensors = {"b": torch.ones(shape, dtype=dtype), "a": torch.zeros(2, dtype=torch.float64)}
    back = wire.unpack(wire.pack(tensors))
    assert list(back) == ["a", "b"]
    assert all(torch.equal(back[k], v) and back[k].dtype == v.dtype for k, v in tensors.items())


def test_what_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_BYTES", 100)
    with pytest.raises(FederationError, match="at most 100"):
        wire.unpack(wire.pack({"w": torch.zeros(1000)}))


def test_many_tensors_travel_as_one_array_for_each_dtype() -> None:
    tensors = {
        f"t{n}": torch.zeros(n, dtype=torch.int64 if n % 2 else torch.float32) for n in range(9)
    }
    record = wire.pack(tensors)
    assert sorted(array.dtype for array in record.values()) == ["float32", "int64"]
    assert record.count_bytes() < 8 * 36 + 2 * 128 + 9 * 12


def test_nothing_is_a_record_too() -> None:
    assert wire.unpack(wire.pack({})) == {}


def test_tensors_share_no_memory() -> None:
    back = wire.unpack(wire.pack({"a": torch.zeros(2), "b": torch.zeros(2)}))
    assert back["a"].untyped_storage().data_ptr() != back["b"].untyped_storage().data_ptr()


@pytest.mark.parametrize(
    "array",
    [
        Array("object", (1,), "numpy.ndarray", b"x"),
        Array("float32", (1,), "numpy.ndarray", b"not an array"),
        Array("float32", (1,), "pickle", b""),
        Array("float32", (1,), "numpy.ndarray", b""),
        Array(np.zeros(1, np.complex64)),
        Array(np.zeros(1, ">f4")),
        Array(np.zeros(2, np.float32)),
        Array(np.zeros((1, 1), np.float32)),
    ],
)
def test_what_is_no_plain_array_is_refused(array: Array) -> None:
    with pytest.raises(FederationError, match="w"):
        wire.unpack(ArrayRecord({'[["w",1]]': array}))


NO_LAYOUTS = [
    *("", "w", "3", "[]", "[3]", '[["w"', "[[3,1]]"),
    *('[["w",1.0]]', '[["w",true]]', '[["w","1"]]', '[["w",1e9]]', '[["w",-1,-1]]'),
    *('[["w",1],["w",0]]', '[["w",' + "9" * 400 + "]]", "[" * 100_000),
]


@pytest.mark.parametrize("layout", NO_LAYOUTS)
def test_what_is_no_layout_is_refused(layout: str) -> None:
    with pytest.raises(FederationError) as caught:
        wire.unpack(ArrayRecord({layout: Array(np.zeros(1, np.float32))}))
    assert "\n" not in str(caught.value)


def test_a_name_in_two_arrays_is_refused() -> None:
    arrays = {
        '[["w",1]]': Array(np.zeros(1, np.float32)),
        '[["w",2]]': Array(np.zeros(2, np.int64)),
    }
    with pytest.raises(FederationError, match="'w' is there twice"):
        wire.unpack(ArrayRecord(arrays))
