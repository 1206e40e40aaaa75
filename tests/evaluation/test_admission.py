from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bayfed.config import Data, Experiment, Federation, Protocol, Synthetic
from bayfed.data import Site, load_sites
from bayfed.errors import CheckpointError, ProtocolError
from bayfed.evaluation.admission import Training, admit, training_of

SMALL = Synthetic(products=3, size=32, train_good=4, test_good=2, per_defect=2)
SITES = {site.family: site for site in load_sites(Data(synthetic=SMALL), seed=0)}
BOLT, CAP = SITES["bolt"], SITES["fabric"]


def renamed(site: Site, name: str, family: str | None = None) -> Site:
    return Site(name, family or name, site.train_good, site.test_good, site.defects)


def trained(protocol: str, *sites: Site) -> Training:
    settings = Protocol.model_construct(name=protocol, holdout=())
    return Training(settings, 0, {s.name: s.family for s in sites}, {s.name: s for s in sites})


def test_a_new_product_is_scored_whole() -> None:
    pools = admit(BOLT, "new-product", trained("new-product", CAP))
    assert pools.test_good == BOLT.test_good
    assert pools.test_anomalies == BOLT.defects
    assert pools.train_anomalies == ()


@pytest.mark.parametrize("protocol", ["standard", "new-product", "new-defect"])
def test_no_training_site_is_a_new_product(protocol: str) -> None:
    with pytest.raises(ProtocolError, match=f"{BOLT.name}: took part in training"):
        admit(BOLT, "new-product", trained(protocol, BOLT))


def test_no_relative_of_a_training_site_is_a_new_product() -> None:
    with pytest.raises(ProtocolError, match="family 'bolt' took part"):
        admit(renamed(CAP, "bolt_07", "bolt"), "new-product", trained("standard", BOLT))


def test_a_training_site_under_another_name_is_recognised() -> None:
    with pytest.raises(ProtocolError, match=r"other: .* is the same picture as bolt"):
        admit(renamed(BOLT, "other"), "new-product", trained("new-product", BOLT))


def test_the_test_split_of_a_training_site_stays_open_to_standard() -> None:
    assert admit(BOLT, "standard", trained("standard", BOLT)).test_anomalies == BOLT.defects


def test_defects_that_were_taken_for_good_are_not_scored_under_any_name() -> None:
    noisy = replace(trained("standard", BOLT), noise=0.5)
    pools = admit(BOLT, "standard", noisy)
    assert len(pools.test_anomalies) == len(BOLT.defects) - 2
    assert pools.test_good == BOLT.test_good
    taken = tuple(image for image in BOLT.defects if image not in pools.test_anomalies)
    elsewhere = Site("other", "other", CAP.train_good, CAP.test_good, taken)
    with pytest.raises(ProtocolError, match=r"other: .* is the same picture as bolt"):
        admit(elsewhere, "new-product", noisy)


def test_resampled_clients_in_the_history_are_no_sites(tmp_path: Path) -> None:
    line = {"clients": [{"name": "bolt_00_000"}, {"name": "bolt_00_003"}]}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    clients = {"clients": {"partition": "resample", "number": 6}}
    experiment = Experiment(data=Data(synthetic=SMALL), federation=Federation(**clients))
    assert {*training_of(tmp_path, experiment).sites} == {site.name for site in SITES.values()}


@pytest.mark.parametrize("protocol", ["new-product", "new-defect"])
def test_test_defects_that_training_saw_are_not_scored(protocol: str) -> None:
    with pytest.raises(ProtocolError, match=f"{BOLT.name}: its test defects were used"):
        admit(BOLT, "standard", trained(protocol, BOLT))
    assert admit(BOLT, "standard", trained(protocol, CAP)).test_anomalies == BOLT.defects


def test_a_training_image_among_the_test_images_is_refused() -> None:
    leaky = Site(BOLT.name, "bolt", BOLT.train_good[:2], BOLT.train_good[2:], BOLT.defects)
    with pytest.raises(ProtocolError, match="the same picture as bolt"):
        admit(leaky, "standard", trained("standard", BOLT))


def test_new_defect_scores_the_type_that_was_kept_back() -> None:
    pools = admit(BOLT, "new-defect", trained("new-defect", BOLT))
    assert pools.partial
    assert 0 < len(pools.test_anomalies) < len(BOLT.defects)
    with pytest.raises(ProtocolError, match="evaluate it under new-product"):
        admit(CAP, "new-defect", trained("new-defect", BOLT))
    with pytest.raises(ProtocolError, match="kept no type of defect back"):
        admit(BOLT, "new-defect", trained("standard", BOLT))


def test_held_out_sites_are_not_training_sites(tmp_path: Path) -> None:
    protocol = Protocol(name="new-product", holdout=("bolt",))
    training = training_of(tmp_path, Experiment(data=Data(synthetic=SMALL), protocol=protocol))
    assert set(training.sites) == {site.name for site in SITES.values()} - {BOLT.name}
    assert training.sites[CAP.name] == "fabric"
    assert training.label == "+".join(sorted(training.sites))


def test_a_federation_of_real_factories_is_known_by_its_records(tmp_path: Path) -> None:
    gone = Data(source="folders", root=tmp_path / "gone", families={"nuts": ("nut",)})
    experiment = Experiment(data=gone)
    with pytest.raises(CheckpointError, match="nothing tells which sites"):
        training_of(tmp_path, experiment)
    lines = '{"round": 0, "clients": []}\n{"clients": [{"name": "nut+pill"}, {"name": "tire"}]}\n'
    (tmp_path / "metrics.jsonl").write_text(lines)
    training = training_of(tmp_path, experiment)
    assert training.sites == {"nut": "nuts", "pill": "pill", "tire": "tire"}


@pytest.mark.parametrize("text", ["{", "[]\n", '{"clients": [1]}', '{"clients": [{}]}', "\xff"])
def test_a_damaged_history_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: not a history"):
        training_of(tmp_path, Experiment(data=Data(synthetic=SMALL)))
