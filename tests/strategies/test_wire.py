from __future__ import annotations

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


@pytest.mark.parametrize(
    "array",
    [
        Array("object", (1,), "numpy.ndarray", b"x"),
        Array("float32", (1,), "numpy.ndarray", b"not an array"),
        Array("float32", (1,), "pickle", b""),
        Array("float32", (1,), "numpy.ndarray", b""),
    ],
)
def test_what_is_no_plain_array_is_refused(array: Array) -> None:
    with pytest.raises(FederationError, match="'w'"):
        wire.unpack(ArrayRecord({"w": array}))
