from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayfed.config import Experiment
from bayfed.data import load_sites
from bayfed.data.retaken import RetakenSource
from bayfed.episodes import Pools
from bayfed.errors import ConfigError
from clients.partition import client_specs
from clients.pools import (
    Stock,
    as_judged,
    behind_camera,
    client_pools,
    quantity,
    stock_of,
)
from tests import toys

QUICK = settings(max_examples=15, deadline=None, derandomize=True)
SITES = {
    "synthetic": {"products": 3, "train_good": 30, "per_defect": 14, "kinds": ["hole", "stain"]},
    "pasted": {"per_site": 60},
}
DIALS = {"quantity": 0.5, "noise": 0.2, "missing": 0.5, "camera": 0.7}
PARTITIONS: dict[str, dict[str, Any]] = {
    "site": {},
    "group": {"number": 2},
    "dirichlet": {"number": 2, "alpha": 5.0},
    "resample": {"number": 7, "share": 0.8},
}


def experiment(partition: str = "site", **groups: Any) -> Experiment:
    clients = {"partition": partition, **PARTITIONS[partition]}
    data = SITES | groups.pop("data", {})
    federation = {"clients": clients} | groups.pop("federation", {})
    return toys.experiment(data=data, federation=federation, **groups)


def skewed(partition: str = "site", seed: int = 0, **dials: float) -> Experiment:
    return experiment(partition, data={"skew": dials}, seed=seed)


def stocks_of(of: Experiment) -> dict[str, Stock]:
    sites = load_sites(of.data, of.seed, of.protocol.holdout)
    return {site.name: stock_of(of, site) for site in sites}


def clients_of(of: Experiment) -> dict[str, list[Pools]]:
    stocks = stocks_of(of)
    return {spec.name: client_pools(of, spec, stocks) for spec in client_specs(of)}


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("name", ["standard", "new-defect"])
def test_whatever_is_skewed_no_image_is_trained_on_and_scored(partition: str, name: str) -> None:
    of = experiment(partition, data={"skew": DIALS}, protocol={"name": name})
    found = clients_of(of)
    whole = {s.name: s for s in load_sites(of.data, of.seed)}
    scored: list[tuple[str, str]] = []
    for clients in found.values():
        for pools in clients:
            tested = {image.name for image in pools.testing}
            scored += [(pools.site, image) for image in tested]
            trained = {
                text
                for others in found.values()
                for other in others
                if other.site == pools.site
                for image in other.training
                for text in (image.name, image.base)
            }
            assert not tested & trained
            defects = {i.name for i in whole[pools.site].defects}
            kept = [i for i in pools.test_anomalies if i.name in defects]
            assert not tested or 2 * len(kept) >= len(defects) / 2
    assert len(scored) == len(set(scored))
    assert {site for site, _ in scored} == {*whole}


@QUICK
@given(low=st.floats(0, 0.6), high=st.floats(0, 0.6), seed=st.integers(0, 20))
def test_quantity_cuts_between_the_dial_and_all(low: float, high: float, seed: int) -> None:
    low, high = sorted((low, high))
    one, other = skewed(quantity=low, seed=seed), skewed(quantity=high, seed=seed)
    before, after = clients_of(one), clients_of(other)
    for spec in client_specs(one):
        share = quantity(other, spec)
        assert 1 - high <= share <= quantity(one, spec) <= 1
        ((large,), (small,)) = before[spec.name], after[spec.name]
        assert len(small.train_good) == round(30 * share)
        assert {i.name for i in small.train_good} <= {i.name for i in large.train_good}
        assert small.testing == large.testing
    assert len({quantity(other, spec) for spec in client_specs(other)}) == (3 if high else 1)


@pytest.mark.parametrize("noise", [0.1, 0.2])
def test_noise_is_the_share_of_normals_that_are_defects_in_truth(noise: float) -> None:
    of = skewed(noise=noise)
    truth = {s.name: {i.name for i in s.defects} for s in load_sites(of.data, of.seed)}
    for (pools,) in clients_of(of).values():
        wrong = [i for i in pools.train_good if i.name in truth[pools.site]]
        assert len(wrong) == 30 * noise
        assert all(image.defect is None for image in pools.train_good)
        assert len(pools.test_anomalies) == len(truth[pools.site]) - len(wrong)


@pytest.mark.parametrize("partition", PARTITIONS)
def test_kinds_are_missing_from_training_alone_and_clients_miss_others(partition: str) -> None:
    plain, of = (clients_of(skewed(partition, missing=share)) for share in (0.0, 0.5))
    missed = set()
    for client, sites in of.items():
        kinds = {i.defect for pools in plain[client] for i in pools.train_anomalies}
        left = {i.defect for pools in sites for i in pools.train_anomalies}
        assert len(kinds) - len(left) == len(kinds) // 2
        missed.add(frozenset(kinds - left))
        for before, after in zip(plain[client], sites, strict=True):
            assert after.train_good == before.train_good
            assert after.testing == before.testing
    assert len(missed) == len(of)


def test_a_camera_takes_everything_that_a_client_has() -> None:
    of = skewed(camera=1.0)
    stocks, optics = stocks_of(of), set()
    for spec in client_specs(of):
        (before,) = client_pools(of, spec, stocks)
        after = behind_camera(before, of, spec)
        sources = [image.source for image in (*after.training, *after.testing)]
        assert all(isinstance(source, RetakenSource) for source in sources)
        optics |= {source.optics for source in sources if isinstance(source, RetakenSource)}
        assert [i.name for i in after.training] == [i.name for i in before.training]
        assert [i.defect for i in after.testing] == [i.defect for i in before.testing]
    assert len(optics) == 3


def test_dials_at_zero_leave_the_very_images() -> None:
    of = experiment()
    stocks = stocks_of(of)
    for spec in client_specs(of):
        (pools,) = client_pools(of, spec, stocks)
        assert behind_camera(pools, of, spec) is pools is stocks[spec.name].pools


def test_a_held_out_product_keeps_its_supports_and_its_test_behind_a_camera_of_its_own() -> None:
    protocol = {"name": "new-product", "holdout": ["bolt"]}
    of = experiment(data={"skew": DIALS}, protocol=protocol)
    (whole,) = (site for site in load_sites(of.data, 0, ("bolt",)) if site.family == "bolt")
    spec = client_specs(of)[-1]
    (pools,) = client_pools(of, spec, stocks_of(of))
    assert pools.train_good == whole.train_good
    assert pools.test_anomalies == whole.defects
    assert behind_camera(pools, of, spec).train_good != pools.train_good


def test_the_report_shows_what_the_clients_scored() -> None:
    of = experiment("resample", data={"skew": DIALS}, federation={"clients": {
        "partition": "resample", "number": 2}})  # fmt: skip
    view, stocks, judged = as_judged(of), stocks_of(of), clients_of(of)
    for spec in client_specs(of):
        (pools,) = judged[spec.name]
        shown = view(stock_of(experiment(), _site(of, pools.site)).pools)
        wanted = behind_camera(pools, of, spec)
        assert [i.digest() for i in shown.testing] == [i.digest() for i in wanted.testing]
    (away,) = {*stocks} - {pools.site for (pools,) in judged.values()}
    assert not view(stock_of(of, _site(of, away)).pools).testing


def _site(of: Experiment, name: str) -> Any:
    (site,) = load_sites(of.data, of.seed, only=(name,))
    return site


@pytest.mark.parametrize(
    ("partition", "changes", "message"),
    [
        ("resample", {"share": 0.1}, r"^federation\.clients\.share: leaves bolt_00_000 3 good"),
        (
            "dirichlet",
            {"number": 9, "alpha": 50.0},
            r"^federation\.clients\.alpha: no share of mixture_\d+ fill",
        ),
    ],
)
def test_clients_that_share_too_thinly_are_one_line(
    partition: str, changes: dict[str, Any], message: str
) -> None:
    clients = {"partition": partition, **PARTITIONS[partition], **changes}
    with pytest.raises(ConfigError, match=message) as caught:
        clients_of(experiment(partition, federation={"clients": clients}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dials", "key"),
    [({"quantity": 0.99}, "data.skew.quantity"), ({"noise": 0.9}, "data.skew.noise")],
)
@pytest.mark.parametrize("partition", ["site", "resample"])
def test_a_dial_that_leaves_too_little_is_one_line(
    partition: str, dials: dict[str, float], key: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        clients_of(skewed(partition, **dials))
    assert str(caught.value).startswith(f"{key}: ")
    assert "\n" not in str(caught.value)


def test_where_nothing_is_trained_only_supports_are_needed() -> None:
    of = experiment(data={"skew": {"quantity": 0.8}}, episode={"shots": 25}, federation={
        "rounds": 0, "clients": {"partition": "site"}})  # fmt: skip
    assert all(len(pools.train_good) >= 3 for (pools,) in clients_of(of).values())
