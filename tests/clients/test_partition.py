from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayfed.config import Clients
from bayfed.episodes import Pools
from bayfed.errors import ConfigError
from clients.partition import ClientSpec, partition, share, share_of
from tests import toys

QUICK = settings(max_examples=30, deadline=None, derandomize=True)


def pools_of(name: str, good: int = 20, real: int = 7, painted: int = 12) -> Pools:
    normals = tuple(toys.image(n) for n in range(good))
    defects = tuple(toys.image(100 + n, "crack") for n in range(real))
    on = tuple(toys.image(200 + n, "hole", normals[n % good].name) for n in range(painted))
    test = tuple(toys.image(300 + n) for n in range(4))
    bad = tuple(toys.image(400 + n, "dent") for n in range(4))
    return Pools(name, "toys", normals, (*defects, *on), test, bad)


def assigned(sites: list[str], wanted: Clients, seed: int) -> tuple[ClientSpec, ...] | None:
    try:
        return partition(sites, ["unseen"], wanted, seed)
    except ConfigError as error:
        assert wanted.partition != "site"
        assert str(error).startswith("federation.clients.")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
        return None


@QUICK
@given(
    kind=st.sampled_from(["site", "group", "dirichlet"]),
    count=st.integers(1, 7),
    number=st.none() | st.integers(1, 8),
    alpha=st.sampled_from([0.1, 1.0, 10.0]),
    seed=st.integers(0, 100),
)
def test_every_image_has_one_owner_and_every_site_one_judge(kind, count, number, alpha, seed):
    sites = [f"s{n}" for n in range(count)]
    specs = assigned(sites, Clients(partition=kind, number=number, alpha=alpha), seed)
    if specs is None:
        return
    *training, unseen = specs
    assert (unseen.sites, unseen.evaluates, unseen.training) == (("unseen",), ("unseen",), ())
    assert all(spec.training == spec.sites != () for spec in training)
    assert len({spec.name for spec in specs}) == len(specs)
    judged = Counter(site for spec in training for site in spec.evaluates)
    assert judged == Counter(sites)
    for site in sites:
        whole = pools_of(site)
        parts = [share(whole, spec, seed) for spec in training if site in spec.sites]
        owned = Counter(image.name for part in parts for image in part.training)
        assert owned == Counter(image.name for image in whole.training)
        for part in parts:
            own = {image.name for image in part.train_good}
            assert all(image.base is None or image.base in own for image in part.train_anomalies)
        tested = Counter(image.name for part in parts for image in part.testing)
        assert tested == Counter(image.name for image in whole.testing)


@pytest.mark.parametrize("kind", ["group", "dirichlet"])
def test_the_seed_decides(kind):
    sites = [f"s{n}" for n in range(6)]
    wanted = Clients(partition=kind, number=3, alpha=2.0)
    found = [partition(sites, [], wanted, seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_alpha_is_heterogeneity():
    sites = [f"s{n}" for n in range(8)]

    def spread(alpha: float) -> float:
        specs = partition(sites, [], Clients(partition="dirichlet", number=4, alpha=alpha), 0)
        shares = [
            last - first for spec in specs for first, last in spec.shares.values() if last > first
        ]
        return max(shares) - 1 / 4

    assert spread(1000.0) < 0.1 < spread(0.5)


@QUICK
@given(count=st.integers(1, 7), number=st.none() | st.integers(1, 30), seed=st.integers(0, 9))
def test_resampled_clients_stand_at_the_sites_in_turn_and_each_site_has_one_judge(
    count, number, seed
):
    sites = [f"s{n}" for n in range(count)]
    wanted = Clients(partition="resample", number=number, share=0.3)
    *training, unseen = partition(sites, ["unseen"], wanted, seed)
    assert (unseen.sites, unseen.training) == (("unseen",), ())
    assert len(training) == (number or count)
    for index, spec in enumerate(training):
        site = sites[index % count]
        assert spec.name == f"{site}_{index:03d}"
        assert spec.sites == spec.training == (site,)
        assert spec.evaluates == ((site,) if index < count else ())
        whole = pools_of(site)
        part = share(whole, spec, seed)
        assert len(part.train_good) == 6
        assert {*part.training} <= {*whole.training}
        own = {image.name for image in part.train_good}
        assert all(image.base is None or image.base in own for image in part.train_anomalies)
        assert part.testing == (whole.testing if index < count else ())
        assert spec.weight(site) == 1


def test_resampled_clients_of_a_site_hold_parts_of_their_own():
    wanted = Clients(partition="resample", number=3)
    parts = [share(pools_of("s"), spec, 0) for spec in partition(["s"], [], wanted, 0)]
    assert len({tuple(i.name for i in part.train_good) for part in parts}) == 3
    assert {*parts[0].train_good} & {*parts[1].train_good}


def test_what_is_in_no_pool_is_shared_out_as_well():
    images = tuple(toys.image(n) for n in range(40))
    mixed = partition(["s"], [], Clients(partition="dirichlet", number=3, alpha=9.0), 0)
    parts = [share_of(images, "s", spec, 0) for spec in mixed]
    assert sorted(i.name for part in parts for i in part) == sorted(i.name for i in images)
    first, second = partition(["s"], [], Clients(partition="resample", number=2), 0)
    assert len(share_of(images, "s", first, 0)) == 20
    assert share_of(images, "s", first, 0) != share_of(images, "s", second, 0)
    (alone,) = partition(["s"], [], Clients(), 0)
    assert share_of(images, "s", alone, 0) == images


def test_a_client_and_a_site_of_one_name_are_refused():
    wanted = Clients(partition="resample")
    with pytest.raises(ConfigError, match=r"^federation\.clients\.partition: .* called s_000$"):
        partition(["s"], ["s_000"], wanted, 0)


@pytest.mark.parametrize(
    ("wanted", "key"),
    [
        (Clients(partition="group", number=4), "federation.clients.number"),
        (Clients(partition="dirichlet", number=40, alpha=0.05), "federation.clients.alpha"),
    ],
)
def test_an_impossible_partition_names_the_setting(wanted, key):
    with pytest.raises(ConfigError) as caught:
        partition(["a", "b", "c"], [], wanted, 0)
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)
