from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bayfed.config import Experiment
from bayfed.data import SiteImage
from bayfed.errors import ConfigError, DataError, ProtocolError
from bayfed.features.store import FeatureStore
from bayfed.seeds import stream
from clients import pools
from clients.factory import Factory, client_specs, initial_parameters, lr_scales
from clients.session import close_all
from tests import toys


@pytest.fixture
def make(tmp_path):
    """``make(**groups)`` gives a tiny experiment with its own store."""

    def build(**groups) -> Experiment:
        return toys.experiment(**{"store": {"directory": str(tmp_path / "store")}, **groups})

    return build


def factory(experiment: Experiment, number: int = 0) -> Factory:
    return Factory.open(experiment, number)


def same(one, other) -> bool:
    fields = ("support", "query", "labels", "masks")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in fields)


def photographs(root: Path, train: int = 6, test: int = 3, bad: int = 3) -> Path:
    """One site in MVTec's layout."""
    number = iter(range(1000))
    for split, count in (("train/good", train), ("test/good", test), ("test/crack", bad)):
        folder = root / "part" / split
        folder.mkdir(parents=True)
        for n in range(count):
            pixels = stream(0, "photograph", next(number)).integers(0, 256, (40, 36, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{n:03d}.png")
    masks = root / "part" / "ground_truth" / "crack"
    masks.mkdir(parents=True)
    for n in range(bad):
        mask = np.zeros((40, 36), np.uint8)
        mask[:9, :9] = 255
        Image.fromarray(mask).save(masks / f"{n:03d}_mask.png")
    return root


def folders(root: Path) -> dict[str, object]:
    return {"source": "folders", "root": str(root), "layout": "mvtec"}


def test_a_batch_depends_on_seed_round_client_and_step_and_on_nothing_else(make):
    experiment = make()
    one, other = factory(experiment), factory(experiment)
    asked = [(1, 0), (1, 1), (2, 0)]
    first = {key: one.batch(*key) for key in asked}
    for key in asked[::-1]:
        assert same(other.batch(*key), first[key])
    assert not same(first[1, 0], first[1, 1])
    assert not same(first[1, 0], first[2, 0])
    assert not same(factory(experiment, 1).batch(1, 0), first[1, 0])
    assert not same(factory(make(seed=1)).batch(1, 0), first[1, 0])


def test_training_needs_nothing_but_what_was_opened(make, monkeypatch):
    opened = factory(make())

    def refuse(*_args):
        raise AssertionError("features are computed again")

    monkeypatch.setattr(FeatureStore, "_compute", refuse)
    factory(make())
    params = initial_parameters(make(), None)
    loss, parts = opened.loss(params, opened.batch(1, 0))
    assert loss.isfinite()
    assert parts["log_odds"] > 0


def test_all_clients_start_from_the_same_parameters(make):
    one, other = initial_parameters(make(), None), initial_parameters(make(), None)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert lr_scales(make(method={"rates": {"head": 0.5}})) == {"head": 0.5}


def test_sites_of_a_client_take_turns_over_steps_even_with_one_episode_a_step(make):
    group = {"clients": {"partition": "group", "number": 1}, "episodes": 1}
    opened = factory(make(federation=group))
    stored = {
        tuple(image.pixels()[0, 0].tolist()): holding.pools.site
        for holding in opened._holdings
        for image in holding.pools.train_good
    }
    corners = (opened.batch(1, step).support[0, 0, :, 0, 0].tolist() for step in range(4))
    found = [stored[tuple(corner)] for corner in corners]
    assert set(found) == {holding.pools.site for holding in opened._holdings}
    assert found[:2] == found[2:]


def test_statistics_of_a_group_are_the_sum_of_its_sites(make):
    prior = {"prior": {"init": "empirical-bayes"}}
    single = [factory(make(method=prior), n).statistics() for n in (0, 1)]
    grouped = make(method=prior, federation={"clients": {"partition": "group", "number": 1}})
    both = factory(grouped).statistics()
    assert both["sites"].item() == 2
    for name, value in both.items():
        torch.testing.assert_close(value, single[0][name] + single[1][name])
    fixed, fitted = initial_parameters(grouped, None), initial_parameters(grouped, both)
    assert not torch.equal(fixed["prior.log_scale"], fitted["prior.log_scale"])
    assert torch.equal(fixed["head.weight"], fitted["head.weight"])


def test_evaluation_tells_what_was_run(make):
    experiment = make()
    rows = factory(experiment, 1).evaluate(initial_parameters(experiment, None), {})
    (row,) = rows
    names = [spec.name for spec in client_specs(experiment)]
    assert row["site"] == names[1]
    assert row["train_sites"] == "+".join(sorted(names))
    assert (row["method"], row["protocol"], row["grain"]) == ("baypranometa", "standard", "patch")
    assert 0 <= row["image_auroc"] <= 1


@pytest.mark.parametrize("grain", ["patch", "image"])
def test_calibration_adds_up_in_two_stages(make, grain):
    experiment = make(method={"grain": grain})
    opened, params = factory(experiment), initial_parameters(experiment, None)
    pooled = opened.calibrate(params, {})
    sums = opened.calibrate(params, pooled)
    assert sums["null.inverse_count"].item() == pytest.approx(1 / (8 - 3))
    (row,) = opened.evaluate(params, pooled | sums)
    assert row["cover90"] is not None


def test_a_held_out_product_is_a_client_that_only_evaluates(make):
    protocol = {"name": "new-product", "holdout": ["bolt"]}
    experiment = make(protocol=protocol, data={"synthetic": {"products": 3}})
    *training, unseen = client_specs(experiment)
    assert all(spec.training == spec.sites for spec in training)
    assert (unseen.name, unseen.training) == ("bolt_00", ())
    params = initial_parameters(experiment, None)
    assert factory(experiment, 0).evaluate(params, {}) == []
    opened = factory(experiment, 2)
    assert opened.describe()["train_anomalies"] == 0
    (row,) = opened.evaluate(params, {})
    assert "bolt" not in row["train_sites"]


def test_a_real_node_keeps_its_held_out_site_from_everything_but_evaluation(make):
    protocol = {"name": "new-product", "holdout": ["bolt"]}
    prior = {"prior": {"init": "empirical-bayes"}}
    node = Factory.open(make(protocol=protocol, method=prior), None)
    alone = Factory.open(make(protocol=protocol, method=prior), 0)
    assert (node.name, node.trains, node.held_out) == (alone.name, True, ("bolt",))
    assert same(node.batch(1, 0), alone.batch(1, 0))
    params = initial_parameters(make(method=prior), None)
    assert_same_sums(node.statistics(), alone.statistics())
    assert_same_sums(node.calibrate(params, {}), alone.calibrate(params, {}))
    (row,) = node.evaluate(params, {})
    assert (row["site"], row["train_sites"]) == ("bolt_00", alone.name)


def assert_same_sums(one, other):
    assert one
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_real_node_without_a_training_site_only_evaluates(make):
    protocol = {"name": "new-product", "holdout": ["bolt", "fabric"]}
    node = Factory.open(make(protocol=protocol), None)
    assert (node.name, node.trains) == ("bolt_00+fabric_00", False)
    assert node.statistics() == {}
    rows = node.evaluate(initial_parameters(make(), None), {})
    assert [row["site"] for row in rows] == ["bolt_00", "fabric_00"]
    assert {row["train_sites"] for row in rows} == {""}


def test_a_mixture_trains_on_the_shares_that_fill_an_episode(make):
    experiment = make(
        data={"synthetic": {"products": 4, "train_good": 16}, "pasted": {"per_site": 24}},
        federation={"clients": {"partition": "dirichlet", "number": 3, "alpha": 2.0}},
        seed=2,
    )
    specs = client_specs(experiment)
    shares = [(last - first) for spec in specs for first, last in spec.shares.values()]
    assert min(shares) * 16 < 5  # smaller than an episode
    judged = []
    for number, _ in enumerate(specs):
        opened = factory(experiment, number)
        assert len(opened.batch(1, 0)) == 2
        params = initial_parameters(experiment, None)
        assert opened.calibrate(params, {})
        judged += [row["site"] for row in opened.evaluate(params, {})]
    assert len(judged) == len(set(judged)) == 4


SKEW = {"quantity": 0.3, "noise": 0.15, "missing": 0.5, "camera": 0.8}
LARGER = {"synthetic": {"train_good": 16, "per_defect": 4}, "pasted": {"per_site": 12}}


def test_skewed_factories_go_all_the_way_and_only_they_compute_their_features(make, monkeypatch):
    plain, skewed = make(data=LARGER), make(data=LARGER | {"skew": SKEW})
    factory(plain)
    passes = []
    compute = FeatureStore._compute
    monkeypatch.setattr(
        FeatureStore, "_compute", lambda *args: (passes.append(len(args[1])), compute(*args))
    )
    factory(plain)
    assert passes == []
    one, other = factory(skewed), factory(skewed)
    held = one.describe()
    assert passes == [sum(held[k] for k in held if k != "sites")]
    assert same(one.batch(1, 0), other.batch(1, 0))
    assert not same(one.batch(1, 0), factory(plain).batch(1, 0))
    params = initial_parameters(skewed, None)
    loss, _ = one.loss(params, one.batch(1, 0))
    assert loss.isfinite()
    assert one.calibrate(params, {})
    (row,) = one.evaluate(params, {})
    assert 0 <= row["image_auroc"] <= 1


def test_a_real_node_is_skewed_as_the_client_that_plays_it(make):
    data = LARGER | {"skew": SKEW, "synthetic": {**LARGER["synthetic"], "products": 1}}
    node, played = Factory.open(make(data=data), None), factory(make(data=data))
    assert node.describe() == played.describe()
    assert same(node.batch(1, 0), played.batch(1, 0))


def test_a_crowd_at_few_sites_shares_features_and_reads_no_other_site(make, monkeypatch):
    clients = {"partition": "resample", "number": 6, "share": 0.8}
    crowd = make(data=LARGER, federation={"clients": clients})
    factory(make(data=LARGER), 0)
    read = []
    digest = SiteImage.digest
    monkeypatch.setattr(SiteImage, "digest", lambda i: (read.append(i.site), digest(i))[1])
    monkeypatch.setattr(FeatureStore, "_compute", lambda *_: pytest.fail("computed again"))
    judge, other = factory(crowd, 0), factory(crowd, 4)
    assert {*read} == {"bolt_00"}
    assert (judge.name, other.name) == ("bolt_00_000", "bolt_00_004")
    assert judge.describe()["train_good"] == other.describe()["train_good"] == 13
    assert not same(judge.batch(1, 0), other.batch(1, 0))
    params = initial_parameters(crowd, None)
    assert len(judge.evaluate(params, {})) == 1
    assert other.evaluate(params, {}) == []
    assert other.calibrate(params, {})


def test_many_clients_of_a_site_list_its_images_once(make, monkeypatch):
    clients = {"partition": "resample", "number": 4, "share": 0.8}
    crowd = make(data=LARGER, federation={"clients": clients})
    close_all()
    factory(crowd, 0)
    monkeypatch.setattr(pools, "load_sites", lambda *_: pytest.fail("listed again"))
    factory(crowd, 2)
    with pytest.raises(pytest.fail.Exception):
        factory(crowd, 1)
    close_all()
    with pytest.raises(pytest.fail.Exception):
        factory(crowd, 2)


def test_every_resampled_client_counts_as_a_factory_of_its_own(make):
    prior = {"prior": {"init": "empirical-bayes"}}
    clients = {"partition": "resample", "number": 4, "share": 0.8}
    crowd = make(data=LARGER, method=prior, federation={"clients": clients})
    assert factory(crowd, 3).statistics()["sites"].item() == 1


@pytest.mark.parametrize("number", [-1, 2, 99])
def test_a_client_that_is_not_there_is_one_line(make, number):
    with pytest.raises(ConfigError, match=rf"^client {number}: .* 0 to 1$"):
        factory(make(), number)


def test_a_name_held_out_that_no_site_has_is_one_line(make):
    with pytest.raises(ProtocolError, match=r"^protocol\.holdout: .*'absent'$"):
        client_specs(make(protocol={"name": "new-product", "holdout": ["absent"]}))


# Bad input on disk, each one line naming the file or the site, nothing left in the store


def fails(experiment: Experiment, kind: type[Exception], *parts: object) -> None:
    def go() -> None:
        opened = factory(experiment)
        opened.batch(1, 0)
        opened.evaluate(initial_parameters(experiment, None), {})

    with pytest.raises(kind) as caught:
        go()
    text = str(caught.value)
    assert "\n" not in text
    assert all(str(part) in text for part in parts), text


def test_real_folders_go_all_the_way(make, tmp_path):
    experiment = make(data=folders(photographs(tmp_path / "sites")))
    opened = factory(experiment)
    assert opened.describe() == {
        "sites": "part", "train_good": 6, "train_anomalies": 6, "test_good": 3, "test_anomalies": 3
    }  # fmt: skip
    (row,) = opened.evaluate(initial_parameters(experiment, None), {})
    assert row["aupro"] is not None


@pytest.mark.parametrize("where", ["train/good/003.png", "test/crack/002.png"])
@pytest.mark.parametrize("keep", [0, 60])
def test_a_damaged_image_names_its_file_and_leaves_nothing(make, tmp_path, where, keep):
    path = photographs(tmp_path / "sites") / "part" / where
    path.write_bytes(path.read_bytes()[:keep])
    fails(make(data=folders(tmp_path / "sites")), DataError, path)
    assert [p for p in (tmp_path / "store").rglob("*") if p.is_file()] == []


def test_an_empty_site_names_its_folder(make, tmp_path):
    root = photographs(tmp_path / "sites")
    for path in (root / "part" / "train" / "good").iterdir():
        path.unlink()
    fails(make(data=folders(root)), DataError, root / "part", "no good image")


def test_fewer_good_images_than_an_episode_needs_name_the_site(make, tmp_path):
    root = photographs(tmp_path / "sites", train=4)
    fails(make(data=folders(root)), ProtocolError, "site part: 4 good", "an episode needs 6")


def test_fewer_good_images_than_evaluation_shots_name_the_site(make, tmp_path):
    root = photographs(tmp_path / "sites")
    experiment = make(data=folders(root), evaluation={"shots": 7})
    fails(experiment, ProtocolError, "site part: 6 good", "7 shots needs 7")


def test_a_mask_of_another_size_names_its_file(make, tmp_path):
    root = photographs(tmp_path / "sites")
    mask = root / "part" / "ground_truth" / "crack" / "001_mask.png"
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(mask)
    fails(make(data=folders(root)), DataError, mask, "40 x 40")


def test_a_copy_of_a_training_image_in_the_test_is_refused(make, tmp_path):
    part = photographs(tmp_path / "sites") / "part"
    copy = part / "test" / "good" / "copy.png"
    copy.write_bytes((part / "train" / "good" / "000.png").read_bytes())
    fails(make(data=folders(tmp_path / "sites")), ProtocolError, "copy.png", "the same picture as")


def test_a_picture_in_test_good_and_among_the_defects_is_refused(make, tmp_path):
    part = photographs(tmp_path / "sites") / "part"
    copy = part / "test" / "good" / "copy.png"
    copy.write_bytes((part / "test" / "crack" / "001.png").read_bytes())
    experiment = make(data=folders(tmp_path / "sites"))
    fails(experiment, ProtocolError, "part/test/crack/001.png", "test/good/copy.png")


def test_a_site_without_defects_to_train_on_names_the_setting(make, tmp_path):
    data = folders(photographs(tmp_path / "sites")) | {"pasted": {"per_site": 0}}
    fails(make(data=data), ProtocolError, "site part: no defects", "data.pasted.per_site")


def test_a_site_whose_largest_share_fills_no_episode_is_still_evaluated(make):
    experiment = make(
        data={"synthetic": {"products": 2, "train_good": 16}, "pasted": {"per_site": 24}},
        federation={"clients": {"partition": "dirichlet", "number": 4, "alpha": 50.0}},
        evaluation={"shots": 2},
        episode={"shots": 4, "normals": 4},
    )
    specs = client_specs(experiment)
    judges = [number for number, spec in enumerate(specs) if spec.evaluates]
    for number in judges:
        opened = factory(experiment, number)
        assert not opened.trains
        assert opened.statistics() == opened.calibrate({}, {}) == {}
        assert opened.evaluate(initial_parameters(experiment, None), {})


def test_mirrored_supports_are_stored_drawn_and_scored(make):
    plain, mirrored = (factory(make(method={"mirrored": value})) for value in (False, True))
    one, other = plain.batch(0, 0), mirrored.batch(0, 0)
    shots = one.support.shape[1]
    assert other.support.shape[1] == 3 * shots
    assert torch.equal(other.support[:, ::3], one.support)
    assert torch.equal(other.query, one.query)
    params = initial_parameters(make(method={"mirrored": True}), None)
    loss, _ = mirrored.loss(params, other)
    assert torch.isfinite(loss)
    assert {row["variant"] for row in mirrored.evaluate(params, {})} == {mirrored.method.variant}
    assert "mirrored" in (mirrored.method.variant or "")


@pytest.mark.parametrize("prior", [{}, {"init": "empirical-bayes"}])
def test_a_client_makes_the_first_parameters_as_the_server_does(make, prior):
    experiment = make(method={"prior": prior})
    own, servers = factory(experiment).initial(), initial_parameters(experiment, None)
    assert own.keys() == servers.keys()
    assert all(torch.equal(own[name], servers[name]) for name in own)
