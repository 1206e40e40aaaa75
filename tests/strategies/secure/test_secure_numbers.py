from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bayfed.errors import FederationError
from bayfed.seeds import stream
from strategies.rules import weighted_mean
from strategies.secure.averaging import mean, summand
from strategies.secure.fixed import Bounded, Wide
from strategies.secure.payload import Coding, Summand, parse
from strategies.secure.ring import Vector
from strategies.secure.shares import combine, split
from strategies.task import clipped
from strategies.wire import WEIGHT

REALS = st.floats(-1e12, 1e12, allow_nan=False, allow_subnormal=False)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3), min_size=1, max_size=9),
    st.integers(2, 32),
    st.floats(0.01, 100.0),
)
def test_a_sum_on_the_grid_is_off_by_less_than_its_bound(
    rows: list[list[float]], bits: int, clip: float
) -> None:
    grid, values = Bounded(clip, bits), np.array(rows) * clip
    ring = grid.ring(len(rows))
    total = ring.read(np.zeros(3 * ring.width, np.uint8))
    for number, row in enumerate(values):
        total = ring.add(total, grid.encode(row, stream(0, "quantise", number)))
    found = grid.decode(ring.read(ring.write(total)), len(rows))
    assert np.abs(found - values.sum(axis=0)).max() < len(rows) * grid.step * (1 + 1e-9)


def test_rounding_to_the_grid_is_unbiased() -> None:
    grid = Bounded(1.0, 4)
    values = np.full(40_000, 0.1234)
    found = grid.decode(grid.encode(values, stream(0, "quantise")), 1)
    assert found.mean() == pytest.approx(0.1234, abs=4 * grid.step / 2 / np.sqrt(values.size))


@pytest.mark.parametrize(
    ("bits", "summands", "width"), [(20, 16, 3), (20, 17, 4), (8, 1, 1), (32, 2, 5), (16, 200, 3)]
)
def test_a_ring_has_room_for_the_sum_and_no_byte_more(bits: int, summands: int, width: int) -> None:
    assert Bounded(1.0, bits).ring(summands).width == width


@settings(deadline=None)
@given(st.lists(REALS, min_size=1, max_size=8), st.integers(-(2**47), 2**47))
def test_wide_sums_are_exact(values: list[float], whole: int) -> None:
    wide = Wide()
    total: Vector = wide.encode([0.0, 0])
    for value in values:
        total = wide.ring.add(total, wide.encode([value, whole]))
    found, count = wide.decode(total)
    exact = sum(map(Fraction, values), Fraction(0))
    # one rounding of each summand below 2^-11, and one of the sum
    assert abs(Fraction(found) - exact) <= len(values) * Fraction(1, 2**65) + abs(exact) / 2**53
    assert count == whole * len(values)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2.0**49, -(2**49)])
def test_a_number_without_room_is_refused(value: float) -> None:
    with pytest.raises(FederationError, match="is no number that a secure sum has room for"):
        Wide().encode([value])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 8), min_size=1, max_size=6), st.integers(0, 99))
def test_the_decoded_mean_is_the_weighted_mean_within_the_stated_bound(
    episodes: list[int], seed: int
) -> None:
    clip, most, torch_seed = 2.0, 8, torch.Generator().manual_seed(seed)
    updates = [
        {"w": torch.randn(3, 2, generator=torch_seed), "b": torch.randn((), generator=torch_seed)}
        for _ in episodes
    ]
    coding = Coding(Bounded(clip, 16), len(episodes))
    totals: dict[str, Vector] = {}
    for client, (update, n) in enumerate(zip(updates, episodes, strict=True)):
        part = summand(update, n, {"loss": n / 3}, clip, most)
        for layout, block in coding.encode(part, stream(0, "quantise", client)).items():
            before = totals.get(layout, np.zeros_like(block.vector))
            totals[layout] = block.ring.add(before, block.vector)
    found, means = mean(coding.decode(totals, len(episodes)), most)
    expected = weighted_mean([clipped(u, clip) for u in updates], [float(n) for n in episodes])
    bound = len(episodes) * coding.grid.step * most / sum(episodes)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert (found[name] - value).abs().max() <= bound + 1e-6
    assert means == {"loss": pytest.approx(sum(n * n / 3 for n in episodes) / sum(episodes))}


@pytest.mark.parametrize(
    ("update", "episodes", "reason"),
    [
        (torch.tensor([1.0, float("nan")]), 1, "holds NaN or Inf"),
        (torch.tensor([1.0]), 0, f"{WEIGHT} is 0"),
        (torch.tensor([1.0]), 9, f"{WEIGHT} is 9"),
    ],
)
def test_an_update_that_would_spoil_the_sum_is_refused_where_it_is_made(
    update: torch.Tensor, episodes: int, reason: str
) -> None:
    with pytest.raises(FederationError, match=reason):
        summand({"w": update}, episodes, {}, 1.0, 8)


def test_a_sum_without_weight_is_refused() -> None:
    with pytest.raises(FederationError, match="has no weight"):
        mean(Summand(), 8)


@pytest.mark.parametrize(
    "layout",
    ["", "[]", '["other",[]]', '["grid",[["w","float32",-1]]]', '["grid",[["w","int8",1]]]',
     '["grid",[["w","float32"],["w","float32"]]]', '["grid",[[1,"float32"]]]', "[" * 9999],
)  # fmt: skip
def test_a_strange_layout_is_refused_in_one_line(layout: str) -> None:
    with pytest.raises(FederationError, match="is no layout"):
        parse(layout)


def test_a_wrong_share_among_many_does_not_hide_the_secret() -> None:
    secret = bytes(range(16))
    parts = dict(enumerate(split(secret, 13, 24)))
    wrong = parts | {0: bytes(16), 1: bytes(16)}
    assert combine(wrong, 13, lambda found: found == secret) == secret
    assert combine(dict(list(wrong.items())[:12]), 13, lambda _: True) is None
