"""The attacks and the benchmark of privacy at tiny sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bayfed.seeds import stream
from experiments.attacks import inversion, membership
from experiments.benchmarks import crowd
from strategies.privacy.clients import ClientLevel


def shadows(strength: float) -> membership.Shadows:
    random = stream(0, "shadows")
    draws, images, size = 10, 12, 60
    members = np.stack([random.permutation(images) < images // 2 for _ in range(draws)])
    own = random.standard_normal((images, size)).astype(np.float32)
    update = strength * members.astype(np.float32) @ own
    noise = random.standard_normal((draws, 3, size))
    gradients = (update[:, None] + noise).astype(np.float32)
    return membership.Shadows(members, gradients, own - own.mean(0), 2)


def test_members_are_found_where_an_update_holds_them_and_not_where_noise_does() -> None:
    seen = shadows(strength=1.0)
    told = membership.attack(seen, membership.updates(seen, None, 0.0, 0))
    assert min(told.auc, told.auc_shadows, told.share_at_rate) > 0.9
    hidden = membership.attack(seen, membership.updates(seen, 1.0, 100.0, 0))
    assert max(abs(hidden.auc - 0.5), abs(hidden.auc_shadows - 0.5)) < 0.2


def test_updates_are_clipped_episode_by_episode() -> None:
    seen = shadows(strength=1.0)
    sent = membership.updates(seen, 0.5, 0.0, 0)
    assert np.linalg.norm(sent, axis=1).max() <= 0.5 * (1 + 1e-5)


def test_pictures_are_compared_in_the_best_order() -> None:
    true = 255 * torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    off = true + 5.0
    assert inversion.psnr(off.flip(0), true) == pytest.approx(20 * np.log10(255 / 5.0), abs=1e-3)
    flatly = true.mean((-1, -2), keepdim=True).expand_as(true)
    assert inversion.constant_psnr(true) == pytest.approx(inversion.psnr(flatly, true))


def test_features_are_compared_about_what_is_known() -> None:
    true = torch.eye(3)[:, None] + 7.0
    assert inversion.likeness(true.flip(0), true, torch.full((3,), 7.0)) == pytest.approx(1.0)
    assert inversion.constant_likeness(true, torch.full((3,), 7.0)) == pytest.approx(3**-0.5)


def test_gradients_of_all_clients_at_once_are_those_of_each() -> None:
    of, episodes = crowd.method(), crowd.Crowd().episodes(range(3), 1)
    params = of.initial(0)
    together = crowd.per_client(of, params, episodes)
    for client in range(3):
        leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
        loss, _ = of.loss(leaves, episodes[client : client + 1])
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        for name, gradient in zip(leaves, found, strict=True):
            if gradient is not None:
                torch.testing.assert_close(together[client][name], gradient, rtol=1e-4, atol=1e-5)


def test_a_crowd_is_scored_on_factories_that_nobody_trained_on() -> None:
    one = crowd.Crowd(seed=1)
    before, after = crowd.train(12, 2, ClientLevel(0.2, 1e3, seed=0), one)
    assert len(before) == len(after) == crowd.TESTS
    assert before != after
