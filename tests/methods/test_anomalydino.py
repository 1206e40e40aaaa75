from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from bayfed.config import AnomalyDINO as Settings
from bayfed.methods import AnomalyDINO
from bayfed.seeds import stream
from tests import toys


def random(*shape: int, key: int = 0) -> torch.Tensor:
    return torch.from_numpy(stream(key, "anomalydino", *shape).standard_normal(shape)).float()


def adapted(support: torch.Tensor, **changes):
    method = AnomalyDINO(Settings(**changes), toys.encoder(support.shape[-1], 4))
    return method, method.adapt(method.initial(0), support)


def test_scores_equal_cosine_distances_of_scipy():
    support, query = random(3, 16, 5), random(2, 16, 5, key=1)
    method, fit = adapted(support, turns=1, top_k=0.2)
    found = method.score(fit, query)
    distances = np.stack(
        [cdist(image, support.flatten(0, 1), "cosine").min(1) for image in query.double()]
    )
    np.testing.assert_allclose(found.tokens, distances, rtol=1e-4, atol=1e-6)
    highest = np.sort(distances, axis=1)[:, -4:].mean(1)  # 20 % of 16 tokens, rounded up
    np.testing.assert_allclose(found.image, highest, rtol=1e-4)


def test_the_length_of_a_feature_does_not_matter():
    support, query = random(3, 16, 5), random(2, 16, 5, key=1)
    method, fit = adapted(support, turns=1)
    _, scaled = adapted(7 * support, turns=1)
    expected = method.score(fit, query).image
    torch.testing.assert_close(method.score(scaled, 0.1 * query).image, expected)


def test_a_turned_support_is_recognised():
    upright, turned = random(1, 16, 5), random(1, 16, 5, key=1)
    method, both = adapted(torch.cat([upright, turned]), turns=2)
    _, one = adapted(upright, turns=1)
    assert method.score(both, turned).image.item() == pytest.approx(0, abs=1e-6)
    assert method.score(one, turned).image.item() > 0.1


def test_an_image_is_left_out_with_its_turns():
    """The turned copy of an image is the image itself, so leaving only one in finds it again."""
    images = random(3, 16, 5)
    method, fit = adapted(images.repeat_interleave(2, 0), turns=2)
    once, same = adapted(images, turns=1)
    torch.testing.assert_close(method.support_scores(fit), once.support_scores(same))
    assert (method.support_scores(fit) > 0.05).all()


def test_a_black_token_has_a_distance():
    method, fit = adapted(random(3, 16, 5), turns=1)
    assert method.score(fit, torch.zeros(1, 16, 5)).image.item() == pytest.approx(1)


@pytest.mark.parametrize("wrong", [{"turns": 0}, {"turns": 65}, {"top_k": 0}, {"grain": "image"}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)
