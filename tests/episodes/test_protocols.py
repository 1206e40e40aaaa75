from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayfed.config import Pasted
from bayfed.config import Protocol as ProtocolSettings
from bayfed.data.pasted import pasted_images
from bayfed.episodes import check_holdout, is_held_out, training_pools, unseen_pools
from bayfed.errors import ProtocolError
from tests import toys

QUICK = settings(max_examples=20, deadline=None, derandomize=True)
PROTOCOLS = {
    "standard": ProtocolSettings(),
    "new-product": ProtocolSettings(name="new-product", holdout=("other",)),
    "new-defect": ProtocolSettings(name="new-defect"),
}
ELPV = (("mono", "elpv"), ("poly", "elpv"), ("pill", "pill"))

sites = st.builds(
    toys.site,
    st.integers(1, 12),
    st.integers(0, 6),
    st.dictionaries(st.sampled_from("abcd"), st.integers(1, 5)).filter(
        lambda kinds: sum(kinds.values()) > 1
    ),
)


def names(images):
    return {image.name for image in images}


def pools_of(protocol, site, seed=0, painted=0):
    pasted = pasted_images(site, Pasted(per_site=painted), seed) if painted else ()
    return training_pools(site, PROTOCOLS[protocol], pasted, seed)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@QUICK
@given(site=sites, seed=st.integers(0, 1000), painted=st.integers(0, 6))
def test_no_image_of_a_test_pool_is_in_a_training_pool(protocol, site, seed, painted):
    pools = pools_of(protocol, site, seed, painted)
    training = {image.digest() for image in pools.training} | {
        image.digest()
        for image in site.images
        for other in pools.train_anomalies
        if image.name == other.base
    }
    assert not training & {image.digest() for image in pools.testing}
    assert names(pools.train_good) == names(site.train_good)
    assert not names(pools.training) & names(site.test_good)
    assert all(image.defect is None for image in (*pools.train_good, *pools.test_good))
    assert all(image.defect for image in (*pools.train_anomalies, *pools.test_anomalies))


@QUICK
@given(site=sites, painted=st.integers(1, 6))
def test_standard_trains_on_good_and_painted_images_only_and_scores_the_whole_test(site, painted):
    pools = pools_of("standard", site, 0, painted)
    assert not names(pools.training) & names((*site.test_good, *site.defects))
    assert all(image.base in names(site.train_good) for image in pools.train_anomalies)
    assert names(pools.testing) == names((*site.test_good, *site.defects))
    assert not pools.partial


@QUICK
@given(site=sites)
def test_new_product_gives_all_defects_of_a_training_site_and_scores_none_of_it(site):
    pools = pools_of("new-product", site)
    assert names(pools.train_anomalies) == names(site.defects)
    assert pools.testing == ()


@QUICK
@given(site=sites, seed=st.integers(0, 50))
def test_new_defect_splits_by_type_or_in_halves_by_the_seed(site, seed):
    pools = pools_of("new-defect", site, seed)
    assert names(pools.train_anomalies) | names(pools.test_anomalies) == names(site.defects)
    assert pools.train_anomalies
    assert pools.test_anomalies
    assert pools.test_good == site.test_good
    assert pools.partial
    if len(site.defect_types) > 1:
        assert len({image.defect for image in pools.test_anomalies}) == 1
        kinds = [{i.defect for i in side} for side in (pools.train_anomalies, pools.test_anomalies)]
        assert not kinds[0] & kinds[1]
    else:
        assert len(pools.test_anomalies) == len(site.defects) // 2
    assert pools_of("new-defect", site, seed) == pools


@pytest.mark.parametrize("kinds", [{"a": 8}, {"a": 2, "b": 2, "c": 2}])
def test_another_seed_splits_new_defects_otherwise(kinds):
    site = toys.site(3, 2, kinds)
    splits = {frozenset(names(pools_of("new-defect", site, s).test_anomalies)) for s in range(12)}
    assert len(splits) > 1


def test_new_defect_needs_two_defects_and_names_the_site():
    with pytest.raises(ProtocolError, match=r"^site toy: new-defect needs two defective images$"):
        pools_of("new-defect", toys.site(3, 2, {"a": 1}))


@pytest.mark.parametrize("held", ["toy", "toys"])
def test_a_held_out_site_gives_nothing_to_training_but_supports(held):
    site = toys.site(3, 2, {"a": 2})
    unseen = ProtocolSettings(name="new-product", holdout=(held,))
    pools = training_pools(site, unseen, (), 0)
    assert pools == unseen_pools(site)
    assert pools.train_anomalies == ()
    assert names(pools.testing) == names((*site.test_good, *site.defects))


@pytest.mark.parametrize("holdout", [("elpv",), ("mono", "poly"), ("elpv", "mono")])
def test_a_family_is_held_out_whole(holdout):
    settings_ = ProtocolSettings(name="new-product", holdout=holdout)
    check_holdout(ELPV, settings_)
    assert [is_held_out(*site, settings_) for site in ELPV] == [True, True, False]


@pytest.mark.parametrize(
    ("holdout", "message"),
    [
        (("mono",), "protocol.holdout: poly is of the held-out family 'elpv'; name the family"),
        (("absent",), "protocol.holdout: no site or family is called 'absent'"),
        (("elpv", "pill"), "protocol.holdout: no site is left to train on"),
    ],
)
def test_an_impossible_holdout_is_one_line(holdout, message):
    with pytest.raises(ProtocolError) as caught:
        check_holdout(ELPV, ProtocolSettings(name="new-product", holdout=holdout))
    assert str(caught.value) == message
