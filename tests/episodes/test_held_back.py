from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bayfed.episodes import Pools, calibration_normals, held_back, seen_pools
from tests import toys


def pools(good: int) -> Pools:
    normals = tuple(toys.image(n) for n in range(good))
    painted = tuple(toys.image(100 + n, "hole", base=i.name) for n, i in enumerate(normals))
    return Pools("toy", "toys", normals, (*painted, toys.image(99, "crack")))


@given(good=st.integers(1, 20), share=st.floats(0, 0.9), seed=st.integers(0, 5))
def test_episodes_never_see_what_is_held_back(good: int, share: float, seed: int) -> None:
    of = pools(good)
    back, seen = held_back(of, share, seed), seen_pools(of, share, seed)
    assert len(back) == int(share * good)
    assert {*back} | {*seen.train_good} == {*of.train_good}
    assert not {*back} & {*seen.train_good}
    bases = {image.base for image in seen.train_anomalies} - {None}
    assert bases == {image.name for image in seen.train_good}
    assert calibration_normals(of, share, seed) == (back or of.train_good)
