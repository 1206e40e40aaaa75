from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayfed.config import FULL, Evaluation
from bayfed.episodes import (
    Pools,
    as_trained_on,
    contaminate,
    draws_of,
    give_away,
    held_back,
    mislabelled,
    noise_of,
    shortfall,
    taken_for_good,
)
from bayfed.errors import ConfigError, ProtocolError
from tests import toys

kinds = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 9), min_size=1)


def pools(good: int = 20, defects: dict[str, int] | None = None) -> Pools:
    site = toys.site(good, 3, {"crack": 9, "hole": 5} if defects is None else defects)
    return Pools("toy", "toys", site.train_good, (), site.test_good, site.defects)


@given(good=st.integers(2, 30), defects=kinds, share=st.floats(0.01, 0.99), seed=st.integers(0, 9))
def test_a_share_of_the_good_images_are_defects_that_left_the_test(
    good: int, defects: dict[str, int], share: float, seed: int
) -> None:
    of = pools(good, defects)
    types = {image.defect for image in of.test_anomalies}
    if sum(defects.values()) < 2 or all(number == 1 for number in defects.values()):
        with pytest.raises(ProtocolError, match=r"^site toy: noise .* needs defects"):
            contaminate(of, share, seed)
        return
    found = contaminate(of, share, seed)
    given_away = {image for image in found.train_good if image.defect is not None}
    assert len(found.train_good) == good
    assert given_away | {*found.test_anomalies} == {*of.test_anomalies}
    assert not given_away & {*found.test_anomalies}
    assert {image for image in found.train_good if image.defect is None} <= {*of.train_good}
    assert found.test_good == of.test_good
    assert 2 * len(given_away) <= len(of.test_anomalies)
    assert {image.defect for image in found.test_anomalies} == types
    wanted = max(1, min(good - 1, round(share * good)))
    assert 1 <= len(given_away) <= wanted
    reached = len(given_away) / good
    assert noise_of(found.train_good) == pytest.approx(reached)
    line = shortfall(of, share, seed)
    assert (line is None) == (len(given_away) == wanted)
    assert line is None or f"capped at {reached:.3f}" in line


def test_seed_and_draw_decide_which_and_where_and_more_noise_holds_less() -> None:
    of = pools()
    assert contaminate(of, 0.2, 0) == contaminate(of, 0.2, 0)
    others = [contaminate(of, 0.2, seed, draw) for seed in (0, 1) for draw in (0, 1)]
    assert len({tuple(i.name for i in one.train_good) for one in others}) == 4
    little, much = (contaminate(of, share, 0) for share in (0.1, 0.3))
    for before, after in zip(little.train_good, much.train_good, strict=True):
        assert before.defect is None or before == after
    assert contaminate(of, 0.0, 0) is of


def test_one_line_says_what_a_site_cannot_give() -> None:
    few = pools(20, {"crack": 6})
    assert shortfall(few, 0.4, 0) == (
        "site toy: noise 0.4 is capped at 0.150, 3 of its 6 test defects"
    )
    assert shortfall(few, 0.15, 0) is None
    assert shortfall(few, 0.0, 0) is None
    none = replace(few, test_anomalies=())
    message = r"^site toy: noise 0.1 needs defects .* stay in the test; it has 0$"
    with pytest.raises(ProtocolError, match=message):
        contaminate(none, 0.1, 0)
    assert contaminate(none, 0.0, 0) is none


def test_a_full_support_is_all_that_is_not_held_back() -> None:
    of, settings = pools(), Evaluation(shots=FULL, draws=3)
    (one,) = draws_of(of, settings, 0)  # there is only one such support
    assert {*one.support} == {*of.train_good}
    (rest,) = draws_of(of, settings.model_copy(update={"calibration": 0.25}), 0)
    assert {*rest.support} == {*of.train_good} - {*held_back(of, 0.25, 0)}
    assert len(rest.support) == 15


def test_noisy_draws_differ_and_leave_their_defects_out_of_the_test() -> None:
    for shots in (FULL, 5):
        draws = draws_of(pools(), Evaluation(shots=shots, draws=3, noise=0.2), 0)
        assert [draw.number for draw in draws] == [0, 1, 2]
        assert len({frozenset(draw.support) for draw in draws}) == 3
        for draw in draws:
            assert not {*draw.support} & {*draw.pools.testing}
            assert Counter(i.defect is None for i in draw.pools.train_good)[False] == 4
    with pytest.raises(ProtocolError, match="30 shots needs 30"):
        draws_of(pools(), Evaluation(shots=30, noise=0.2), 0)


# What clients train on


@given(good=st.integers(2, 30), defects=kinds, share=st.floats(0.01, 0.99), seed=st.integers(0, 9))
def test_what_clients_take_for_good_is_in_no_pool_but_their_normals(
    good: int, defects: dict[str, int], share: float, seed: int
) -> None:
    of = pools(good, defects)
    wanted = max(1, min(good - 1, round(share * good)))
    able = min(sum(defects.values()) // 2, sum(number - 1 for number in defects.values()))
    if wanted > able:
        line = rf"^data.skew.noise: .* needs {wanted} defects of site toy, which can give {able} "
        with pytest.raises(ConfigError, match=line):
            give_away(of, share, seed)
        return
    rest, given_away = give_away(of, share, seed)
    assert len(given_away) == wanted
    assert {*given_away} | {*rest.test_anomalies} == {*of.test_anomalies}
    assert {image.defect for image in rest.test_anomalies} == {*defects}
    found = mislabelled(rest, given_away, share, seed, "client")
    names = {image.name for image in given_away}
    assert len(found.train_good) == good
    assert {image.name for image in found.train_good} & {i.name for i in of.test_anomalies} == names
    assert all(image.defect is None and not image.mask().any() for image in found.train_good)
    assert {i.name for i in as_trained_on(of, share, seed).train_good} >= names


def test_known_defects_of_training_are_taken_first_and_painted_ones_never() -> None:
    site = toys.site(20, 3, {"crack": 9, "hole": 5})
    painted = tuple(toys.image(500 + n, "stain", site.train_good[n].name) for n in range(20))
    of = Pools("toy", "toys", site.train_good, (*site.defects[:9], *painted), (), site.defects[9:])
    rest, given_away = give_away(of, 0.2, 0)
    assert {image.defect for image in given_away} == {"crack"}
    assert rest.test_anomalies == of.test_anomalies
    assert len(rest.train_anomalies) == len(of.train_anomalies) - 4
    found = mislabelled(rest, given_away, 0.2, 0, "client")
    own = {image.name for image in found.train_good}
    assert {i.base for i in found.train_anomalies if i.base} <= own
    assert sum(image.base is not None for image in found.train_anomalies) == 16


def test_more_noise_holds_what_less_does_and_clients_have_places_of_their_own() -> None:
    of = pools(20, {"crack": 40})
    little, much = (
        mislabelled(*give_away(of, share, 0), share, 0, "client") for share in (0.1, 0.3)
    )
    for before, after in zip(little.train_good, much.train_good, strict=True):
        assert before in of.train_good or before == after
    rest, given_away = give_away(of, 0.3, 0)
    other = mislabelled(rest, given_away, 0.3, 0, "other")
    assert {*other.train_good} != {*much.train_good}
    assert give_away(of, 0.0, 0) == (of, ())
    assert mislabelled(of, given_away, 0.0, 0, "client") is of
    assert mislabelled(of, (), 0.3, 0, "client") is of


def test_a_defect_taken_for_good_bears_no_mark() -> None:
    (image,) = taken_for_good([toys.image(1, "hole", "good/1")])
    assert (image.name, image.defect, image.base) == ("hole/1", None, None)
