from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from bayfed.config import PatchCore as Settings
from bayfed.methods import PatchCore
from bayfed.methods import nearest as module
from bayfed.methods.coreset import greedy_coreset
from bayfed.methods.nearest import cosine_distance, nearest_distance
from bayfed.seeds import stream
from tests import toys


def random(*shape: int, key: int = 0) -> torch.Tensor:
    return torch.from_numpy(stream(key, "patchcore", *shape).standard_normal(shape)).float()


def adapted(support: torch.Tensor, channels: int, **changes):
    method = PatchCore(Settings(**changes), toys.encoder(channels, 3))
    return method, method.adapt(method.initial(0), support)


@pytest.mark.parametrize("side", [1, 7, 40, 640])
def test_nearest_distances_equal_those_of_sklearn(side, monkeypatch):
    monkeypatch.setattr(module, "SIDE", side)
    queries, memory = random(40, 6) + 100, random(30, 6, key=1) + 100
    for metric, found in (
        ("euclidean", nearest_distance(queries, memory)),
        ("cosine", cosine_distance(*map(torch.nn.functional.normalize, (queries, memory)))),
    ):
        search = NearestNeighbors(n_neighbors=1, metric=metric).fit(memory.double())
        expected = search.kneighbors(queries.double())[0][:, 0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_whole_memory_scores_by_the_nearest_patch_and_equation_7():
    support, query = random(4, 9, 5), random(3, 9, 5, key=1)
    method, fit = adapted(support, 5, coreset=1.0, neighbours=3)
    memory, found = support.flatten(0, 1).numpy(), method.score(fit, query)
    search = NearestNeighbors(n_neighbors=3).fit(memory)
    for image, score, tokens in zip(query.numpy(), found.image, found.tokens, strict=True):
        distance, index = search.kneighbors(image, n_neighbors=1)
        np.testing.assert_allclose(tokens, distance[:, 0], rtol=1e-4)
        star = distance[:, 0].argmax()
        around = search.kneighbors(memory[index[star]], return_distance=False)[0]
        to_around = np.linalg.norm(image[star] - memory[around], axis=1)
        weight = 1 - np.exp(distance[star, 0]) / np.exp(to_around).sum()
        assert score.item() == pytest.approx(weight * distance[star, 0], rel=1e-4)


def test_without_neighbours_the_score_is_the_largest_distance():
    method, fit = adapted(random(4, 9, 5), 5, neighbours=None)
    scores = method.score(fit, random(3, 9, 5, key=1))
    torch.testing.assert_close(scores.image, scores.tokens.amax(-1))


def test_a_memory_of_one_patch_has_no_neighbours():
    method, fit = adapted(random(2, 9, 5), 5, coreset=1e-6)
    assert fit.model.patches.shape == (1, 5)
    scores = method.score(fit, random(3, 9, 5, key=1))
    torch.testing.assert_close(scores.image, scores.tokens.amax(-1))


def radius(points: np.ndarray, chosen) -> float:
    return cdist(points, points[list(chosen)]).min(1).max()


@given(st.integers(0, 1000), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_a_coreset_covers_within_twice_the_best_radius(key, number):
    points = random(9, 2, key=key)
    best = min(radius(points.numpy(), some) for some in combinations(range(9), number))
    chosen = greedy_coreset(points, number)[0].tolist()
    assert len(set(chosen)) == number
    assert radius(points.numpy(), chosen) <= 2 * best * (1 + 1e-5)


def test_each_point_of_a_coreset_is_the_farthest_from_those_before_it():
    points = random(60, 4)
    chosen = greedy_coreset(points, 20)[0].numpy()
    numbers = points.numpy()
    assert chosen[0] == cdist(numbers.mean(0)[None], numbers).argmin()
    for step in range(1, 20):
        assert chosen[step] == cdist(numbers, numbers[chosen[:step]]).min(1).argmax()


def test_subsets_are_covered_in_step_as_they_would_be_alone():
    points = random(50, 4) + 7
    members = torch.ones(3, 50, dtype=torch.bool)
    members[1, :20] = members[2, 30:] = False
    found = greedy_coreset(points, 12, members)
    for chosen, mask in zip(found, members, strict=True):
        alone = greedy_coreset(points[mask], 12)[0]
        assert chosen.tolist() == mask.nonzero()[:, 0][alone].tolist()


def test_equal_points_do_not_break_a_coreset():
    assert greedy_coreset(torch.ones(6, 3), 4).shape == (1, 4)


def test_the_projection_decides_the_coreset_and_not_the_distances():
    support = random(4, 9, 20)
    method, fit = adapted(support, 20, coreset=0.25, projection=3)
    projection = method.initial(0)["coreset.projection"]
    assert projection.shape == (20, 3)
    chosen = greedy_coreset(support.flatten(0, 1) @ projection, 9)[0]
    torch.testing.assert_close(fit.model.patches, support.flatten(0, 1)[chosen])
    assert not torch.equal(projection, method.initial(1)["coreset.projection"])
    assert adapted(support, 20, projection=20)[0].initial(0) == {}


@pytest.mark.parametrize("wrong", [{"coreset": 0}, {"coreset": 1.1}, {"neighbours": 1}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)
