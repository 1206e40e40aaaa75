from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bayfed.config import Refine, parse_experiment
from bayfed.data.turned import UPRIGHT
from bayfed.episodes.episode import EpisodeBatch
from bayfed.methods import Refined, TrainableMethod, build_method
from bayfed.methods.base import Scores
from bayfed.methods.refined import fence_of, refined
from bayfed.seeds import stream
from tests import toys


class Mean:
    """Scores an image by its distance to the mean of the support."""

    name, variant, localises, poses = "mean", None, False, UPRIGHT

    def __init__(self) -> None:
        self.fits: list[int] = []

    def initial(self, seed, statistics=None):
        del seed, statistics
        return {}

    def adapt(self, params, support: Tensor) -> Tensor:
        assert params == {}
        self.fits.append(len(support))
        return support

    def score(self, adapted: Tensor, query: Tensor) -> Scores:
        return Scores((query - adapted.mean(0)).norm(dim=-1), None)

    def support_scores(self, adapted: Tensor) -> Tensor:
        means = (adapted.sum(0) - adapted) / (len(adapted) - 1)
        return (adapted - means).norm(dim=-1)

    def size(self, adapted: Tensor) -> int:
        return adapted.numel()


class Nearby(Mean):
    """Scores an image by its distance to the median, which stays with the most."""

    def support_scores(self, adapted: Tensor) -> Tensor:
        return (adapted - adapted.median(0).values).norm(dim=-1)


def planted(good: int = 40, bad: int = 6) -> tuple[Tensor, Tensor]:
    """Vectors around 0 with outliers among them, and which they are."""
    random = stream(0, "planted", good, bad)
    vectors = random.standard_normal((good + bad, 3))
    labels = random.permutation(good + bad) >= good
    vectors[labels] += 8.0
    return torch.from_numpy(vectors), torch.from_numpy(labels)


def method(cycles: int = 5, whisker: float = 1.5) -> Refined:
    found = refined(Mean(), Refine(cycles=cycles, whisker=whisker), Refine())
    assert isinstance(found, Refined)
    return found


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 5))
def test_the_fence_is_tukeys(scores, whisker):
    low, high = np.percentile(scores, [25, 75])
    expected = high + whisker * (high - low)
    found = fence_of(torch.tensor(scores, dtype=torch.double), whisker)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_mirrored_quartiles_stand_up_to_nearly_half_of_the_images():
    support, bad = planted(good=30, bad=20)
    recalls = {}
    for quartiles in ("both", "lower"):
        settings = Refine(cycles=9, quartiles=quartiles)
        around = refined(Nearby(), settings, Refine())
        rejected = around.rejected(around.adapt({}, support))
        recalls[quartiles] = float((rejected & bad).sum() / bad.sum())
        assert not (rejected & ~bad).any() or quartiles == "lower"
    assert recalls["lower"] == 1.0
    assert recalls["both"] == 0.0


def test_planted_outliers_are_rejected_and_the_rest_is_adapted_to():
    support, bad = planted()
    found = method()
    adapted = found.adapt({}, support)
    rejected = found.rejected(adapted)
    assert bool((rejected & bad).sum() == bad.sum())  # recall 1
    assert float((rejected & bad).sum() / rejected.sum()) > 0.8
    assert torch.equal(adapted.adapted, support[~rejected])
    expected = Mean().support_scores(support[~rejected])
    torch.testing.assert_close(found.support_scores(adapted), expected)
    query = support[:2] + 1
    plain = Mean().score(support[~rejected], query).image
    torch.testing.assert_close(found.score(adapted, query).image, plain)
    assert found.size(adapted) == 3 * int((~rejected).sum())


def test_a_cycle_is_one_fence_of_the_scores_of_what_is_kept():
    support, _ = planted()
    kept = np.arange(len(support))
    for cycles in range(1, 4):
        own = Mean().support_scores(support[kept]).numpy()
        low, high = np.percentile(own, [25, 75])
        fence = high + 1.5 * (high - low)
        kept = kept[own <= fence]
        adapted = method(cycles).adapt({}, support)
        assert sorted(kept) == (~adapted.rejected).nonzero()[:, 0].tolist()
        if len(own) > len(kept):
            assert adapted.fence == pytest.approx(fence)


def test_it_stops_where_nothing_is_rejected():
    support, _ = planted(bad=0)
    found = method(cycles=50, whisker=20.0)
    adapted = found.adapt({}, support)
    assert not found.rejected(adapted).any()
    assert found.inside.fits == [len(support)]


@pytest.mark.parametrize("images", [1, 2, 3, 4])
def test_two_images_at_least_are_kept(images):
    support = torch.tensor([[0.0], [0.0], [0.0], [100.0]])[-images:]
    found = method(cycles=9, whisker=0.0)
    adapted = found.adapt({}, support)
    assert int((~found.rejected(adapted)).sum()) >= min(2, images)


def test_an_image_goes_with_its_turns():
    build = parse_experiment(
        {"method": {"name": "anomalydino", "turns": 2, "refine": {"cycles": 2}},
         "federation": {"rounds": 0}}
    ).method  # fmt: skip
    found = build_method(build, toys.encoder(4, 3))
    random = stream(0, "turned").standard_normal((8, 1, 9, 4)).astype(np.float32)
    images = torch.from_numpy(np.repeat(0.1 * random + 1, 2, axis=1))
    images[5] *= torch.tensor([1.0, -1.0, 1.0, -1.0])
    adapted = found.adapt(found.initial(0), images.flatten(0, 1))
    assert found.rejected(adapted).tolist()[5]
    assert len(adapted.adapted.tokens) == int((~adapted.rejected).sum())


@pytest.mark.parametrize("name", ["patchcore", "baypranometa", "maml", "padim", "refinement"])
def test_it_goes_around_every_method(name):
    def built(cycles: int):
        tree = {"method": {"name": name, "refine": {"cycles": cycles}}, "federation": {"rounds": 0}}
        return build_method(parse_experiment(tree).method, toys.encoder(4, 3))

    plain, around = built(0), built(2)
    assert not isinstance(plain, Refined)
    assert isinstance(around, Refined)
    assert isinstance(around, TrainableMethod) == isinstance(plain, TrainableMethod)
    assert (around.name, around.localises, around.poses) == (name, True, UPRIGHT)
    params = plain.initial(0)
    for key, value in around.initial(0).items():
        torch.testing.assert_close(value, params[key])
    usual = {"refinement": ("unrefined", "refined")}.get(name, (None, "refined"))
    assert (plain.variant, around.variant) == usual
    if isinstance(around, TrainableMethod):
        batch: EpisodeBatch = toys.batch()
        torch.testing.assert_close(around.loss(params, batch), plain.loss(params, batch))
        assert (
            around.statistics(params, batch.support[0]).keys()
            == plain.statistics(params, batch.support[0]).keys()
        )


def test_a_large_support_keeps_its_good_images():
    support = torch.from_numpy(stream(0, "large").standard_normal((24, 9, 4)).astype(np.float32))
    support[3] += 6  # two that are alike would vouch for each other
    support[17] -= 6
    tree = {"method": {"name": "patchcore", "refine": {"cycles": 3}}, "federation": {"rounds": 0}}
    found = build_method(parse_experiment(tree).method, toys.encoder(4, 3))
    rejected = found.rejected(found.adapt(found.initial(0), support))
    assert rejected[[3, 17]].all()
    assert int(rejected.sum()) <= 4
