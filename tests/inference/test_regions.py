import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from bayfed.inference.frame import Frame
from bayfed.inference.regions import labelled
from bayfed.seeds import stream


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 99))
def test_parts_are_those_that_scipy_finds(height, width, share, seed):
    mask = stream(seed, "mask").random((height, width)) < share
    found, (expected, number) = labelled(mask), ndimage.label(mask)
    pairs = {(int(a), int(b)) for a, b in zip(found[mask], expected[mask], strict=True)}
    assert len(pairs) == number == len({a for a, _ in pairs})
    assert not found[~mask].any()


@given(st.integers(1, 16), st.integers(16, 3000))
def test_tiles_lie_as_exact_arithmetic_puts_them(tiles, side):
    length = tiles - (tiles - 1) / 8
    tile = int(np.ceil(side / length))
    starts = [round((side - tile) * i / max(1, tiles - 1)) for i in range(tiles)]
    assert Frame(tiles=tiles).spans(side) == [(start, start + tile) for start in starts]
