"""What holds for every system with an outer loss, by whatever mathematics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bayfed.errors import ConfigError
from bayfed.features import build_encoder
from bayfed.methods import build_method
from bayfed.methods.losses import balanced_cross_entropy
from bayfed.seeds import torch_stream
from tests import toys

RIVALS = ["protonet", "protomaml", "maml", "anil"]
STEPPING = ["protomaml", "maml", "anil"]
EVERY = [*RIVALS, "refinement"]
GRIDS = [1, 3]


def start(method, spread=0.1):
    """Float64 parameters near round 0, where no gradient vanishes by symmetry."""
    return {
        name: value.double()
        + spread * torch.randn(value.shape, generator=torch_stream(1, name)).double()
        for name, value in method.initial(0).items()
    }


def episodes(grid, number=2):
    return toys.batch(number, tokens=grid**2, dtype=np.float64)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", EVERY)
def test_every_meta_parameter_receives_a_gradient_at_round_0(name, grid):
    method = toys.system(name, grid=grid, loss={"dense": float(grid > 1)})
    found = toys.gradients(method, method.initial(0), toys.batch(tokens=grid**2))
    for parameter, value in found.items():
        assert value is not None, parameter
        assert value.isfinite().all(), parameter
        assert value.any(), parameter


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", EVERY)
def test_a_batch_equals_a_loop_over_its_episodes(name, grid):
    method = toys.system(name, grid=grid, exact=True, loss={"dense": 1.0})
    params, several = start(method), episodes(grid, 3)
    singles = [toys.one(several, i) for i in range(3)]
    losses = [method.loss(params, one)[0] for one in singles]
    torch.testing.assert_close(method.loss(params, several)[0], sum(losses) / 3)
    parts = [toys.gradients(method, params, one) for one in singles]
    for parameter, gradient in toys.gradients(method, params, several).items():
        mean = sum(part[parameter] for part in parts) / 3
        torch.testing.assert_close(gradient, mean, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", EVERY)
def test_the_exact_outer_gradient_is_that_of_the_whole_adaptation(name, grid):
    method = toys.system(name, grid=grid, exact=True)
    params, several = start(method), episodes(grid)
    for parameter, gradient in toys.gradients(method, params, several).items():
        random = torch.randn(gradient.shape, generator=torch_stream(2, parameter)).double()
        ahead, behind = (
            method.loss(params | {parameter: params[parameter] + step * random}, several)[0]
            for step in (1e-5, -1e-5)
        )
        expected = (ahead - behind).item() / 2e-5
        assert (gradient * random).sum().item() == pytest.approx(expected, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", STEPPING)
def test_the_first_order_gradient_takes_the_inner_gradients_as_constants(name):
    """Finite differences with the steps' displacement frozen at its value at ``params``."""
    inner = {"steps": 2, "lr": 0.5}
    method = toys.system(name, grid=1, exact=True, inner=inner | {"order": "first"})
    still = toys.system(name, grid=1, exact=True, inner={"steps": 0})
    params, episode = start(method), episodes(1, 1)
    rate = params.pop("inner.log_lr")
    adapted = method.adapt(params | {"inner.log_lr": rate}, episode.support[0]).weights
    begun = still.adapt(params, episode.support[0]).weights
    moved = {k: v - begun[k] for k, v in adapted.items() if k in begun}

    def frozen(point):
        weights = still.adapt(point, episode.support[0]).weights
        shifted = {k: v + moved[k] for k, v in weights.items()}
        logits = still._logits(shifted)({}, *(x[0] for x in still._inputs(shifted, episode.query)))
        return balanced_cross_entropy(logits[:, 0], episode.labels[0], 0.5).item()

    found = toys.gradients(method, params | {"inner.log_lr": rate}, episode)
    exact = toys.system(name, grid=1, exact=True, inner=inner)
    whole = toys.gradients(exact, params | {"inner.log_lr": rate}, episode)
    for parameter, value in params.items():
        random = torch.randn(value.shape, generator=torch_stream(2, parameter)).double()
        ahead, behind = (
            frozen(params | {parameter: value + step * random}) for step in (1e-5, -1e-5)
        )
        expected = (ahead - behind) / 2e-5
        assert (found[parameter] * random).sum().item() == pytest.approx(expected, rel=1e-5)
    assert not torch.allclose(found["head.weight"], whole["head.weight"], rtol=1e-2)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", RIVALS)
def test_support_scores_leave_out_the_image_that_they_score(name, grid):
    method = toys.system(name, grid=grid, exact=True)
    params, support = start(method), episodes(grid).support[0]
    own = method.support_scores(method.adapt(params, support))
    for i in range(len(support)):
        rest = torch.cat([support[:i], support[i + 1 :]])
        alone = method.score(method.adapt(params, rest), support[i : i + 1]).image
        torch.testing.assert_close(own[i : i + 1], alone)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", RIVALS)
def test_evaluation_and_training_score_alike(name, grid):
    method = toys.system(name, grid=grid, exact=True)
    params, episode = start(method), episodes(grid, 1)
    scores = method.score(method.adapt(params, episode.support[0]), episode.query[0])
    expected = balanced_cross_entropy(scores.log_odds, episode.labels[0], 0.5)
    loss, parts = method.loss(params, episode)
    torch.testing.assert_close(loss, expected)
    right = (scores.log_odds > 0) == (episode.labels[0] > 0.5)
    assert parts["accuracy"] == pytest.approx(right.double().mean().item())
    assert (scores.tokens is None) == (grid == 1) == (not method.localises)
    assert scores.p_value is None


@pytest.mark.parametrize("name", EVERY)
def test_training_lowers_the_loss(name):
    method = toys.system(name, grid=1)
    params = {k: v.requires_grad_() for k, v in method.initial(0).items()}
    optimiser = torch.optim.Adam(params.values(), lr=0.02)
    losses = []
    for _ in range(15):
        loss, _ = method.loss(params, toys.batch(4, tokens=1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("name", RIVALS)
def test_the_dense_term_reads_masks_where_there_are_tokens(name):
    method = toys.system(name, loss={"dense": 0.5})
    episode = toys.batch()
    loss, parts = method.loss(method.initial(0), episode)
    torch.testing.assert_close(loss, parts["log_odds"] + 0.5 * parts["dense"])
    hidden = replace(episode, masks=torch.full_like(episode.masks, 255))
    assert method.loss(method.initial(0), hidden)[1]["dense"] == 0
    pooled = toys.system(name, grid=1, loss={"dense": 0.5})
    assert "dense" not in pooled.loss(pooled.initial(0), toys.batch(tokens=1))[1]


@pytest.mark.parametrize("name", RIVALS)
def test_the_seed_decides_round_0_and_no_statistics_are_asked_for(name):
    method = toys.system(name, embedding=2)
    one, same, other = (method.initial(seed) for seed in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])
    assert all(value.dtype == torch.float32 for value in one.values())
    assert method.statistics(one, toys.batch().support[0]) == {}


@pytest.mark.parametrize("name", RIVALS)
def test_the_size_counts_the_body_and_what_scores(name):
    method = toys.system(name, embedding=2)
    adapted = method.adapt(method.initial(0), toys.batch().support[0])
    head, support = 2 * 4 + 2, 5
    assert method.size(adapted) == 4 * (head + support + (2 if name == "protonet" else 3))


@pytest.mark.parametrize("trainable", ["adapters", "all"])
@pytest.mark.parametrize("name", RIVALS)
def test_a_trainable_backbone_is_trained_and_adapts_where_the_body_does(name, trainable):
    backbone = {"trainable": trainable, "grid": 2}
    backbone["name"] = "conv4" if trainable == "all" else toys.TIMM
    settings = toys.experiment(backbone=backbone, method={"name": name, "embedding": 8})
    encoder = build_encoder(settings, torch.device("cpu"))
    method = build_method(settings.method, encoder)
    random = torch_stream(0, "pictures")
    pictures = torch.randint(0, 256, (14, 3, 32, 32), dtype=torch.uint8, generator=random)
    stored = encoder.trunk(pictures).unflatten(0, (2, 7))
    several = replace(
        toys.batch(2),
        support=stored[:, :3],
        query=stored[:, 3:],
        labels=torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2),
        masks=torch.zeros((2, 4, 3), dtype=torch.uint8),
        tokens=torch.tensor([[0, 3, 2], [1, 2, 3]]),
    )
    params = method.initial(0)
    found = toys.gradients(method, params, several)
    # The adapters start at W_u = 0, behind which nothing is seen until an inner step moves it.
    sleeps = trainable == "adapters" and name in ("protonet", "anil")
    asleep = {"tail.down.weight", "tail.depthwise.weight"} if sleeps else set()
    for parameter, value in found.items():
        assert value is not None, parameter
        assert bool(value.any()) == (parameter not in asleep), parameter
    halves = [replace(toys.one(several, i), tokens=several.tokens[i : i + 1]) for i in (0, 1)]
    losses = [method.loss(params, half)[0] for half in halves]
    torch.testing.assert_close(method.loss(params, several)[0], sum(losses) / 2)
    adapted = method.adapt(params, stored[0, :3])
    scores = method.score(adapted, stored[0, 3:])
    assert scores.tokens.shape == (4, 4)
    if name != "protonet":
        tails = [k for k in params if k.startswith("tail.")]
        moved = [not torch.equal(adapted.weights[k], params[k]) for k in tails]
        assert all(moved) if name != "anil" else not any(moved)


@pytest.mark.parametrize(
    ("settings", "variant"),
    [
        ({"name": "protonet"}, None),
        ({"name": "protonet", "normalise": True}, "normalised"),
        ({"name": "maml"}, None),
        ({"name": "anil", "inner": {"order": "first"}}, "first-order"),
        ({"name": "protomaml", "inner": {"steps": 0}}, "no-inner"),
        ({"name": "maml", "normalise": False, "inner": {"steps": 0}}, "no-inner+unnormalised"),
        ({"name": "baypranometa"}, None),
        ({"name": "baypranometa", "loss": {"contrastive": 0}}, "no-contrastive"),
        ({"name": "baypranometa", "prior": {"init": "empirical-bayes"}}, "empirical-bayes"),
        ({"name": "baypranometa", "broad": {"law": "fixed"}}, "fixed-broad"),
    ],
)
def test_the_variant_names_what_differs_at_either_grain(settings, variant):
    for grid in GRIDS:
        assert toys.system(**settings, grid=grid).variant == variant


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "protonet", "inner": {"steps": 1}}, "unknown setting 'method.inner'"),
        ({"name": "maml", "loss": {"contrastive": 1}}, "unknown setting 'method.loss.contrastive'"),
        ({"name": "anil", "inner": {"volume": True}}, "unknown setting 'method.inner.volume'"),
        ({"name": "protomaml", "grain": "pixel"}, "method.grain: .*'image' or 'patch'"),
        ({"name": "maml", "inner": {"steps": -1}}, "method.inner.steps: "),
        ({"name": "metaqda"}, "method: .*'metaqda'"),
        ({"name": "anil", "embedding": 5}, r"^method\.embedding: 5 is more than the 4 channels$"),
    ],
)
def test_what_a_system_cannot_do_is_one_line(settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        toys.system(**settings).initial(0)
    assert "\n" not in str(caught.value)
