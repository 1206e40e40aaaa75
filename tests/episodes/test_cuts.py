from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from bayfed.episodes import Pools, cut, cut_images, spared_kinds, without_kinds
from tests import toys

QUICK = settings(max_examples=30, deadline=None, derandomize=True)


def pools(good: int = 20, real: int = 7, painted: int = 12) -> Pools:
    normals = tuple(toys.image(n) for n in range(good))
    defects = tuple(toys.image(100 + n, "crack") for n in range(real))
    on = tuple(toys.image(200 + n, "hole", normals[n % good].name) for n in range(painted))
    test = (toys.image(300), toys.image(301, "crack"))
    return Pools("toy", "toys", normals, (*defects, *on), test[:1], test[1:])


@QUICK
@given(edges=st.lists(st.floats(0, 1), max_size=4), seed=st.integers(0, 9))
def test_parts_of_one_order_have_every_image_once(edges, seed):
    of = pools()
    edges = [0.0, *sorted(edges), 1.0]
    parts = [cut(of, part, seed, "a") for part in pairwise(edges)]
    owned = Counter(image.name for part in parts for image in part.training)
    assert owned == Counter(image.name for image in of.training)
    for part in parts:
        own = {image.name for image in part.train_good}
        assert all(image.base is None or image.base in own for image in part.train_anomalies)
        assert part.testing == of.testing


@QUICK
@given(less=st.floats(0, 1), more=st.floats(0, 1), seed=st.integers(0, 9))
def test_a_smaller_part_is_in_a_larger_one_of_the_same_order(less, more, seed):
    less, more = sorted((less, more))
    images = pools().train_good
    small, large = (cut_images(images, (0.0, part), seed, "a") for part in (less, more))
    assert {*small} <= {*large}
    assert len(large) == round(20 * more)
    assert list(large) == [image for image in images if image in large]


def test_the_key_decides_the_order():
    found = [cut(pools(), (0, 0.5), seed, key) for seed, key in ((0, "a"), (0, "a"), (0, "b"))]
    assert found[0] == found[1] != found[2]


@QUICK
@given(less=st.floats(0, 0.99), more=st.floats(0, 0.99), kinds=st.integers(1, 9))
def test_kinds_that_are_spared_are_a_share_and_never_all(less, more, kinds):
    less, more = sorted((less, more))
    images = tuple(toys.image(n, "abcdefghi"[n % kinds]) for n in range(2 * kinds))
    of = [Pools("a", "f", (), images[:kinds]), Pools("b", "f", (), images[kinds:])]
    few, many = (spared_kinds(of, share, 0, "client") for share in (less, more))
    assert few <= many
    assert more * kinds - 1 < len(many) <= more * kinds + 1e-6
    for site in of:
        kept = without_kinds(site, many)
        assert {i.defect for i in kept.train_anomalies} == {*"abcdefghi"[:kinds]} - many
    assert len(spared_kinds(of, 0.29, 0, "client")) == int(0.29 * kinds)


def test_the_test_keeps_the_kinds_that_training_misses():
    of = pools()
    found = without_kinds(of, {"crack"})
    assert {image.defect for image in found.train_anomalies} == {"hole"}
    assert found.testing == of.testing
    assert spared_kinds([Pools("a", "f", ())], 0.5, 0, "client") == frozenset()
