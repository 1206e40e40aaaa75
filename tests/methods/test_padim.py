from __future__ import annotations

import numpy as np
import pytest
import torch

from bayfed.config import PaDiM as Settings
from bayfed.methods import PaDiM
from bayfed.methods.low_rank_gaussian import low_rank_gaussian
from bayfed.seeds import stream
from tests import toys


def random(*shape: int, key: int = 0) -> torch.Tensor:
    return torch.from_numpy(stream(key, "padim", *shape).standard_normal(shape)).float()


def adapted(support: torch.Tensor, **changes):
    method = PaDiM(Settings(**changes), toys.encoder(support.shape[-1], 3))
    return method, method.adapt(method.initial(0), support)


@pytest.mark.parametrize("images", [2, 5, 30])
def test_the_map_equals_numpy_s_inverse_at_each_position(images):
    support, query = random(images, 9, 12), random(4, 9, 12, key=1)
    method, fit = adapted(support, channels=8, ridge=0.1)
    kept = method.initial(0)["channels"].numpy()
    found = method.score(fit, query)
    for position in range(9):
        samples = support[:, position].double().numpy()[:, kept]
        inverse = np.linalg.inv(np.cov(samples, rowvar=False) + 0.1 * np.eye(8))
        centred = query[:, position].double().numpy()[:, kept] - samples.mean(0)
        expected = np.sqrt(np.einsum("qi,ij,qj->q", centred, inverse, centred))
        np.testing.assert_allclose(found.tokens[:, position], expected, rtol=1e-4)
    torch.testing.assert_close(found.image, found.tokens.amax(-1))


@pytest.mark.parametrize("rank", [1, 3, 9])
@pytest.mark.parametrize("ridge", [1e-2, 1.0])
def test_the_woodbury_form_equals_the_inverse(rank, ridge):
    mean, root, vectors = random(6), random(rank, 6, key=1).double(), random(5, 6, key=2)
    law = low_rank_gaussian(mean, root, torch.tensor(ridge))
    covariance = root.numpy().T @ root.numpy() + np.float32(ridge) * np.eye(6)
    centred = (vectors - mean).double().numpy()
    expected = np.sqrt((centred @ np.linalg.inv(covariance) * centred).sum(1))
    np.testing.assert_allclose(law.distance(vectors), expected, rtol=1e-4)


def test_channels_are_drawn_once_by_the_seed():
    method, _ = adapted(random(3, 9, 12), channels=5)
    kept = method.initial(0)["channels"]
    assert len(set(kept.tolist())) == 5
    assert kept.max() < 12
    assert any(not torch.equal(kept, method.initial(seed)["channels"]) for seed in range(1, 4))


@pytest.mark.parametrize("channels", [None, 12, 100])
def test_all_channels_are_kept_where_there_are_no_more(channels):
    method, _ = adapted(random(3, 9, 12), channels=channels)
    assert method.initial(0) == {}


def test_a_fitted_model_is_small():
    method, fit = adapted(random(5, 9, 12), channels=None)
    assert method.size(fit) == 4 * (9 * 12 + 9 * 5 * 12 + 1)


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"ridge": 0}, {"grain": "image"}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)
