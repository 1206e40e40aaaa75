"""One regression test for each fault of the published implementation that can occur here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bayfed.config import Episode, load_experiment
from bayfed.episodes import Pools
from bayfed.episodes.sampler import EpisodeSampler
from bayfed.features import build_encoder
from bayfed.methods import BayPrAnoMeta, build_method
from bayfed.methods.head import Head
from bayfed.methods.prior import build_prior
from bayfed.metrics import image_auroc
from bayfed.normality import posterior, predictive, sufficient_statistics
from bayfed.seeds import stream, torch_stream
from tests import toys

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
MEGABYTE = 1e6


def double(params):
    return {name: value.double() for name, value in params.items()}


def start(method, spread=0.05):
    """Float64 parameters near round 0, where no gradient vanishes by symmetry."""
    return {
        name: value + spread * torch.randn(value.shape, generator=torch_stream(1, name)).double()
        for name, value in double(method.initial(0)).items()
    }


@pytest.mark.parametrize("grid", [1, 3])
@pytest.mark.parametrize("objective", ["predictive", "leave-one-out"])
@pytest.mark.parametrize("covariance", ["isotropic", "diagonal", "full"])
@pytest.mark.parametrize("broad", ["inflated", "fixed"])
def test_fault_1_every_meta_parameter_receives_a_gradient(grid, objective, covariance, broad):
    dense = float(grid > 1)
    method = toys.method(
        grid=grid,
        inner={"objective": objective},
        prior={"covariance": covariance},
        broad={"law": broad},
        loss={"dense": dense},
    )
    found = toys.gradients(method, method.initial(0), toys.batch(2, tokens=grid**2))
    for name, value in found.items():
        assert value is not None, name
        assert value.isfinite().all(), name
        assert value.any(), name


@pytest.mark.parametrize("objective", ["predictive", "leave-one-out"])
def test_fault_2_inner_steps_move_the_head_and_lower_the_supports_objective(objective):
    def negative_density(steps: int) -> float:
        """Mean of -ln p(token) under its own or the others' predictive, as density of tokens."""
        inner = {"steps": steps, "lr": 0.05, "objective": objective, "volume": True}
        method = toys.method(exact=True, inner=inner, prior={"effective": 9.0})
        params = double(method.initial(0))
        tokens = toys.batch(1, dtype=np.float64).support[0]
        head = method.adapt(params, tokens).fit.head
        moved.append((head.weight - params["head.weight"]).norm().item())
        z = head.embed(tokens)
        values = []
        for i in range(len(z)):
            others = z if objective == "predictive" else torch.cat([z[:i], z[i + 1 :]])
            sample = sufficient_statistics(others.flatten(0, 1))
            law = predictive(posterior(build_prior(params), sample))
            values.append(law.log_prob(z[i]).mean())
        return -(torch.stack(values).mean() + head.log_volume()).item()

    moved: list[float] = []
    densities = [negative_density(steps) for steps in (0, 1, 3)]
    assert moved[0] == 0
    assert 1e-3 < moved[1] < moved[2]
    assert densities[0] > densities[1] > densities[2]


def test_fault_3_the_posterior_is_that_of_the_adapted_embeddings():
    method = toys.method(grid=1, exact=True, inner={"steps": 2, "lr": 0.1})
    params = start(method)
    support = toys.batch(1, tokens=1, dtype=np.float64).support[0]
    adapted = method.adapt(params, support)
    initial = Head(params["head.weight"], params["head.bias"])

    def law_behind(head):
        embedded = head.embed(support).flatten(0, 1)
        return predictive(posterior(build_prior(params), sufficient_statistics(embedded)))

    expected, stale = law_behind(adapted.fit.head), law_behind(initial)
    points = support.flatten(0, 1)
    distance = expected.mahalanobis(adapted.fit.head.embed(points))
    torch.testing.assert_close(adapted.fit.law.location, expected.location)
    torch.testing.assert_close(adapted.fit.law.distance(points), distance)
    assert not torch.allclose(adapted.fit.law.location, stale.location, rtol=1e-2)


@pytest.mark.parametrize(("grid", "repeats"), [(1, 60), (2, 40)])
def test_faults_4_and_5_pure_noise_is_scored_by_chance(grid, repeats):
    channels = 6
    method = toys.method(channels, grid, inner={"steps": 1})
    params = method.initial(0)
    good = tuple(toys.image(n) for n in range(40))
    bad = tuple(toys.image(100 + n, "crack") for n in range(30))
    pools = Pools("toy", "toys", good, bad)
    size = Episode(shots=5, normals=30, anomalies=30)
    areas = []
    for key in range(repeats):
        features = toys.noise(pools, grid**2, channels, key)
        sampler = EpisodeSampler(pools, features, toys.encoder(channels, grid), size)
        episode = sampler.episode(stream(key, "episode"))
        scores = method.score(method.adapt(params, episode.support[0]), episode.query[0])
        areas.append(image_auroc(scores.image.detach().numpy(), episode.labels[0].numpy()))
    error = np.std(areas) / np.sqrt(repeats)
    assert error < 0.015
    assert abs(np.mean(areas) - 0.5) < 3 * error


def effective_rank(embedded):
    """exp of the entropy of the share of each singular value (Roy and Vetterli 2007)."""
    flat = embedded.flatten(0, -2)
    share = torch.linalg.svdvals(flat - flat.mean(0))
    share = share / share.sum()
    return (-(share * share.log()).sum()).exp().item()


@pytest.mark.parametrize("contrastive", [0.0, 0.1])
def test_fault_6_embeddings_do_not_collapse_in_training(contrastive):
    method = toys.method(
        channels=6, inner={"steps": 1}, loss={"contrastive": contrastive, "dense": 1.0}
    )
    params = {name: value.requires_grad_() for name, value in method.initial(0).items()}
    optimiser = torch.optim.Adam(params.values(), lr=5e-3)
    ranks, losses = [], []
    for step in range(24):
        episodes = toys.batch(2, channels=6, key=step % 6)
        if step % 18 < 6:
            with torch.no_grad():
                adapted = method.adapt(params, episodes.support[0])
                ranks.append(effective_rank(adapted.fit.head.embed(episodes.query[0])))
        loss, _ = method.loss(params, episodes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-6:]) < np.mean(losses[:6])
    assert np.mean(ranks[6:]) > 0.8 * np.mean(ranks[:6])


def directional(method, params, episodes, direction, step=1e-5):
    """A central difference of the loss."""
    moved = [
        {name: value + sign * step * direction[name] for name, value in params.items()}
        for sign in (1, -1)
    ]
    ahead, behind = (method.loss(point, episodes)[0].item() for point in moved)
    return (ahead - behind) / (2 * step)


@pytest.mark.parametrize("objective", ["predictive", "leave-one-out"])
def test_fault_8_the_gradient_is_that_of_the_whole_adaptation(objective):
    settings = {"steps": 2, "lr": 0.1, "objective": objective}
    exact = toys.method(exact=True, inner=settings, loss={"dense": 1.0})
    first = toys.method(exact=True, inner={**settings, "order": "first"}, loss={"dense": 1.0})
    params, episodes = start(exact), toys.batch(2, dtype=np.float64)
    found = toys.gradients(exact, params, episodes)
    short = toys.gradients(first, params, episodes)
    scale = max(value.abs().max().item() for value in found.values())
    for name, gradient in found.items():
        random = torch.randn(gradient.shape, generator=torch_stream(2, name)).double()
        direction = {n: random if n == name else torch.zeros_like(v) for n, v in params.items()}
        expected = directional(exact, params, episodes, direction)
        assert (gradient * random).sum().item() == pytest.approx(
            expected, rel=1e-5, abs=1e-7 * scale
        ), name
    for name in ("head.weight", "prior.log_scale", "prior.log_kappa"):
        assert not torch.allclose(found[name], short[name], rtol=1e-3), name
    torch.testing.assert_close(found["score.bias"], short["score.bias"])


@pytest.mark.parametrize("trainable", ["conv4", "test_efficientnet"])
def test_fault_9_a_score_depends_on_no_other_query(trainable):
    backbone = {"name": trainable, "grid": 4, "trainable": "all"}
    settings = toys.experiment(backbone=backbone)
    encoder = build_encoder(settings, torch.device("cpu"))
    method = build_method(settings.method, encoder)
    random = torch_stream(0, "pictures")
    pictures = torch.randint(0, 256, (9, 3, 32, 32), dtype=torch.uint8, generator=random)
    with torch.no_grad():
        adapted = method.adapt(method.initial(0), pictures[:3])
        together = method.score(adapted, pictures[3:]).image
        alone = torch.cat([method.score(adapted, pictures[i : i + 1]).image for i in range(3, 9)])
        extreme = torch.cat([pictures[3:4], torch.full((5, 3, 32, 32), 255, dtype=torch.uint8)])
        beside = method.score(adapted, extreme).image[:1]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[:1], beside, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_fault_10_a_payload_stays_below_a_megabyte(covariance):
    settings = load_experiment(EXPERIMENTS / "sites.yaml").method
    prior = settings.prior.model_copy(update={"covariance": covariance})
    method = BayPrAnoMeta(
        settings.model_copy(update={"prior": prior}), toys.encoder(channels=128, grid=28)
    )
    params = method.initial(0)
    statistics = method.statistics(params, torch.randn(2, 784, 128, generator=torch_stream(0)))
    for tensors in (params, statistics):
        assert sum(t.numel() * t.element_size() for t in tensors.values()) < MEGABYTE
