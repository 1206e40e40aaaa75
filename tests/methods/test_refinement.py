"""The flow of the refinement system against an independent computation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bayfed.config import parse_experiment
from bayfed.errors import ConfigError
from bayfed.features import build_encoder
from bayfed.methods import build_method
from bayfed.methods.folds import left_out
from bayfed.seeds import torch_stream
from tests import toys

PLAIN = {"cycles": 0}
DIM = 5


def built(channels=DIM, grid=3, exact=True, **settings):
    return toys.system(
        "refinement", channels, grid, exact, **{"refine": PLAIN, "adapt_steps": 0, **settings}
    )


def moved(method, spread=0.3):
    """Float64 parameters at which the flow is far from the identity."""
    return {
        name: value.double()
        + spread * torch.randn(value.shape, generator=torch_stream(1, name)).double()
        for name, value in method.initial(0).items()
    }


def by_hand(params, white):
    """Map one white vector through the couplings, with nothing of the flow's library."""
    z = white
    for i in range(4):
        prefix = f"flow.transform.transforms.{i}.hyper"
        fixed = torch.arange(DIM) % 2 == i % 2
        hidden = torch.nn.functional.silu(
            params[f"{prefix}.0.weight"] @ z[fixed] + params[f"{prefix}.0.bias"]
        )
        shift, scale = (
            (params[f"{prefix}.2.weight"] @ hidden + params[f"{prefix}.2.bias"]).view(-1, 2).T
        )
        scale = scale / (1 + (scale / math.log(10)).abs())
        moved = z.clone()
        moved[~fixed] = z[~fixed] * scale.exp() + shift
        z = moved
    return z


def test_the_log_density_is_that_of_a_change_of_variables():
    method = built()
    params = moved(method)
    white = torch.randn(4, DIM, generator=torch_stream(0, "white")).double()
    found = -DIM * method._surprise(params, white)
    for x, density in zip(white, found, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda z: by_hand(params, z), x)
        base = -0.5 * by_hand(params, x).square().sum() - 0.5 * DIM * math.log(2 * math.pi)
        expected = base + torch.linalg.slogdet(jacobian)[1]
        torch.testing.assert_close(density, expected, rtol=1e-9, atol=1e-9)


def test_the_score_of_an_image_by_numpy():
    method = built(top_k=0.3)
    params = moved(method)
    episode = toys.batch(1, channels=DIM, dtype=np.float64)
    x = episode.support[0].numpy().reshape(-1, DIM)
    shrink, share = (
        1 / (1 + np.exp(-params[n].item())) for n in ("gaussian.shrink", "score.hybrid")
    )
    covariance = (1 - shrink) * np.cov(x.T, bias=True)
    covariance += shrink * np.trace(np.cov(x.T, bias=True)) / DIM * np.eye(DIM)
    values, axes = np.linalg.eigh(covariance)
    white = (episode.query[0].numpy() - x.mean(0)) @ (axes / np.sqrt(values)) @ axes.T
    flow = method._surprise(params, torch.from_numpy(white)).numpy()
    tokens = (1 - share) * flow + share * (white**2).sum(-1) / (2 * DIM)
    found = method.score(method.adapt(params, episode.support[0]), episode.query[0])
    np.testing.assert_allclose(found.tokens, tokens, rtol=1e-8)
    np.testing.assert_allclose(found.image, np.sort(tokens, -1)[:, -3:].mean(-1), rtol=1e-8)
    odds = params["score.log_gain"].exp() * found.image + params["score.bias"]
    torch.testing.assert_close(found.log_odds, odds)


def test_at_round_0_it_ranks_as_a_gaussian_does():
    method = built(channels=8, exact=False)
    episode = toys.batch(1, channels=8)
    adapted = method.adapt(method.initial(0), episode.support[0])
    white = adapted.whitening(episode.query[0])
    found = method.score(adapted, episode.query[0]).tokens
    gaussian = white.square().mean(-1) / 2
    assert np.corrcoef(found.flatten(), gaussian.flatten())[0, 1] > 0.999


def test_an_evaluation_may_take_more_steps_than_training():
    episode = toys.batch(1, channels=DIM, dtype=np.float64)
    inner = {"steps": 0, "lr": 0.05}
    method, params = built(), moved(built(), 0.1)

    def surprise(steps):
        some = built(inner=inner, adapt_steps=steps)
        rate = {"inner.log_lr": torch.tensor(0.05).double().log()}
        adapted = some.adapt(params | rate, episode.support[0])
        white = adapted.whitening(episode.support[0].flatten(0, 1))
        return some._surprise(adapted.weights, white).mean().item()

    assert surprise(8) < surprise(2) < surprise(0)
    assert method.initial(0).keys() == built(inner=inner, adapt_steps=3).initial(0).keys()
    assert "inner.log_lr" not in built(inner=inner, adapt_steps=0).initial(0)


def test_each_fold_is_scored_by_the_others():
    method = built(adapt_steps=2, adapt_tokens=30)
    params = moved(method, 0.05)
    for number in (4, 12):
        support = torch.randn(number, 9, DIM, generator=torch_stream(2, "s", number)).double()
        own = method.support_scores(method.adapt(params, support))
        for part in left_out(number):
            rest = torch.tensor([i for i in range(number) if i not in part.tolist()])
            alone = method.score(method.adapt(params, support[rest]), support[part]).image
            torch.testing.assert_close(own[part], alone)


def test_wide_tokens_are_cut_to_some_channels():
    tree = {"method": {"name": "refinement", "channels": 4, "refine": PLAIN, "top_k": 0.3}}
    method = build_method(parse_experiment(tree).method, toys.encoder(12, 3))
    episode = toys.batch(1, channels=12)
    params = method.initial(0)
    assert all(value.is_floating_point() for value in params.values())
    adapted = method.adapt(params, episode.support[0])
    assert adapted.whitening.mean.shape == (4,)
    assert method.score(adapted, episode.query[0]).image.isfinite().all()
    with pytest.raises(ConfigError, match="refinement needs two channels"):
        build_method(parse_experiment(tree).method, toys.encoder(1, 3))


@pytest.mark.parametrize("trainable", ["adapters", "all"])
def test_a_trainable_backbone_is_trained_before_the_flow(trainable):
    backbone = {"trainable": trainable, "grid": 2}
    backbone["name"] = "conv4" if trainable == "all" else toys.TIMM
    settings = toys.experiment(backbone=backbone, method={"name": "refinement"})
    encoder = build_encoder(settings, torch.device("cpu"))
    method = build_method(settings.method, encoder)
    pictures = torch.randint(
        0, 256, (7, 3, 32, 32), dtype=torch.uint8, generator=torch_stream(0, "pictures")
    )
    stored = encoder.trunk(pictures)[None]
    episode = replace(
        toys.batch(1),
        support=stored[:, :3],
        query=stored[:, 3:],
        labels=torch.tensor([[0.0, 0.0, 1.0, 1.0]]),
        masks=torch.zeros((1, 4, 3), dtype=torch.uint8),
        tokens=torch.tensor([[0, 3, 2]]),
    )
    params = method.initial(0)
    found = toys.gradients(method, params, episode)
    # The adapters start at W_u = 0, behind which nothing is seen.
    asleep = {"tail.down.weight", "tail.depthwise.weight"} if trainable == "adapters" else set()
    for name, value in found.items():
        if name.startswith("tail."):
            assert bool(value.any()) == (name not in asleep), name
    assert method.score(method.adapt(params, stored[0, :3]), stored[0, 3:]).image.isfinite().all()


def test_building_it_leaves_the_global_stream_alone():
    before = torch.random.get_rng_state()
    built()
    assert torch.equal(torch.random.get_rng_state(), before)
