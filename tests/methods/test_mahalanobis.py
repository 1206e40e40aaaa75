from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf

from bayfed.config import Mahalanobis as Settings
from bayfed.methods import Mahalanobis
from bayfed.methods.mahalanobis import SMALLEST
from bayfed.seeds import stream
from tests import toys


def random(*shape: int, key: int = 0) -> torch.Tensor:
    return torch.from_numpy(stream(key, "mahalanobis", *shape).standard_normal(shape)).float()


def adapted(support: torch.Tensor):
    method = Mahalanobis(Settings(), toys.encoder(support.shape[-1]))
    return method, method.adapt(method.initial(0), support)


@pytest.mark.parametrize("images", [4, 5, 40])
def test_scores_equal_those_behind_sklearn_s_shrunk_covariance(images):
    support, query = random(images, 1, 8) @ random(8, 8) + 3, random(6, 1, 8, key=1)
    method, fit = adapted(support)
    samples = support[:, 0].double().numpy()
    estimate = LedoitWolf().fit(samples)
    assert estimate.shrinkage_ > SMALLEST
    inverse = np.linalg.inv(estimate.covariance_)
    expected = [mahalanobis(one, samples.mean(0), inverse) for one in query[:, 0].double().numpy()]
    np.testing.assert_allclose(method.score(fit, query).image, expected, rtol=1e-4)


def test_two_images_are_shrunk_a_little():
    support = random(2, 1, 4)
    method, fit = adapted(support)
    samples = support[:, 0].double().numpy()
    assert LedoitWolf().fit(samples).shrinkage_ == 0
    covariance = np.cov(samples, rowvar=False, bias=True)
    covariance = (1 - SMALLEST) * covariance + SMALLEST * np.trace(covariance) / 4 * np.eye(4)
    inverse, query = np.linalg.inv(covariance), random(3, 1, 4, key=1)
    expected = [mahalanobis(one, samples.mean(0), inverse) for one in query[:, 0].double().numpy()]
    np.testing.assert_allclose(method.score(fit, query).image, expected, rtol=1e-4)


def test_without_any_spread_distances_are_euclidean():
    support, query = random(1, 1, 4), random(3, 1, 4, key=1)
    for whole in (support, support.expand(3, 1, 4)):
        method, fit = adapted(whole)
        expected = (query - support)[:, 0].norm(dim=-1)
        torch.testing.assert_close(method.score(fit, query).image, expected)


def test_patches_are_refused():
    with pytest.raises(ValueError, match="grain"):
        Settings.model_validate({"grain": "patch"})
