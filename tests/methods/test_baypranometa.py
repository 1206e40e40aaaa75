from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from bayfed.config import load_experiment
from bayfed.features import build_encoder
from bayfed.methods import BayPrAnoMeta, build_method
from bayfed.methods.losses import balanced_cross_entropy
from bayfed.methods.prior import build_prior
from bayfed.seeds import stream, torch_stream
from tests import toys

CPU = torch.device("cpu")
EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def double(params):
    return {name: value.double() for name, value in params.items()}


def moved(params, key=0):
    """Parameters away from the identity and from zero."""
    return {
        name: value + 0.1 * torch.randn(value.shape, generator=torch_stream(key, name))
        for name, value in params.items()
    }


def niw_by_numpy(prior, tokens, effective=None):
    """The posterior's numbers given ``(k, t, d)`` tokens, in numpy."""
    m0, k0, n0, psi = (np.asarray(field.detach().double()) for field in prior)
    n = len(tokens) * (tokens.shape[1] if effective is None else effective)
    flat = tokens.reshape(-1, tokens.shape[-1])
    mean = flat.mean(0)
    scatter = (flat - mean).T @ (flat - mean) * (n / len(flat))
    shift = k0 * n / (k0 + n) * np.outer(mean - m0, mean - m0)
    return (k0 * m0 + n * mean) / (k0 + n), k0 + n, n0 + n, psi + scatter + shift


def t_by_scipy(numbers, inflation=1.0):
    mean, kappa, nu, psi = numbers
    dof = nu - len(mean) + 1
    shape = psi * (kappa + 1) / (kappa * dof)
    return stats.multivariate_t(mean, inflation * shape, df=dof)


def test_the_surprise_is_the_log_odds_of_a_broad_law_against_the_predictive():
    method = toys.method(exact=True, inner={"steps": 0})
    params = double(moved(method.initial(0)))
    episode = toys.batch(1, dtype=np.float64)
    scores = method.score(method.adapt(params, episode.support[0]), episode.query[0])
    embed = lambda x: x.numpy() @ params["head.weight"].numpy().T + params["head.bias"].numpy()  # noqa: E731
    effective = params["prior.log_effective"].exp().item()
    numbers = niw_by_numpy(build_prior(params), embed(episode.support[0]), effective)
    query = embed(episode.query[0])
    inflation = 1 + params["score.inflation"].exp().item()
    log_odds = t_by_scipy(numbers, inflation).logpdf(query) - t_by_scipy(numbers).logpdf(query)
    np.testing.assert_allclose(scores.tokens, log_odds / 4, rtol=1e-8)
    highest = np.sort(log_odds / 4, axis=-1)[:, -3:].mean(-1)  # top_k 0.3 of 9 tokens
    np.testing.assert_allclose(scores.image, highest, rtol=1e-8)


@pytest.mark.parametrize("broad", ["inflated", "fixed"])
def test_the_image_grain_at_the_papers_settings_equals_scipy(broad):
    paper = {
        "grain": "image", "embedding": 8, "relu": True, "normalise": True, "broad": {"law": broad},
        "inner": {"steps": 1, "lr": 5e-4, "objective": "predictive", "volume": False},
        "prior": {"covariance": "isotropic", "kappa": 0.01, "extra_dof": 3.0, "scale": 1.0},
    }  # fmt: skip
    method = toys.method(channels=12, grid=1, exact=True, **paper)
    params = double(method.initial(0))
    episode = toys.batch(1, tokens=1, channels=12, dtype=np.float64)
    adapted = method.adapt(params, episode.support[0])
    found = method.score(adapted, episode.query[0])
    z = torch.nn.functional.layer_norm
    embed = [
        z((x[0, :, 0] @ adapted.fit.head.weight.mT + adapted.fit.head.bias).relu(), (8,)).numpy()
        for x in (episode.support, episode.query)
    ]
    numbers = niw_by_numpy(build_prior(params), embed[0][:, None])
    assert numbers[2] == pytest.approx(8 + 2 + 5)
    wide, narrow = t_by_scipy(numbers, 4.0), t_by_scipy(numbers)
    if broad == "fixed":
        wide = stats.multivariate_t(np.zeros(8), 100 * np.eye(8), df=2)
    expected = wide.logpdf(embed[1]) - narrow.logpdf(embed[1])
    np.testing.assert_allclose(found.image, expected / 8, rtol=1e-6)
    assert found.tokens is None
    mean, _, nu, _ = numbers
    deviation = embed[1] - mean
    distance = np.einsum("nd,nd->n", deviation, np.linalg.solve(narrow.shape, deviation.T).T)
    np.testing.assert_allclose(found.p_value, stats.f(8, nu - 7).sf(distance / 8), rtol=1e-6)


def objective_by_scipy(prior, tokens, weight, bias, effective, settings):
    """The support's mean negative log density per token and dimension, by loops."""
    z = tokens @ weight.T + bias
    densities = []
    for i in range(len(z)):
        others = np.delete(z, i, 0) if settings["objective"] == "leave-one-out" else z
        law = t_by_scipy(niw_by_numpy(prior, others, effective))
        densities.append(law.logpdf(z[i]).mean())
    volume = 0.5 * np.linalg.slogdet(weight @ weight.T)[1] if settings["volume"] else 0.0
    return -(np.mean(densities) + volume) / len(bias)


@pytest.mark.parametrize("objective", ["predictive", "leave-one-out"])
@pytest.mark.parametrize("volume", [False, True])
def test_an_inner_step_descends_the_objective_by_independent_computation(objective, volume):
    inner = {"objective": objective, "volume": volume, "steps": 1, "lr": 1.0}
    method = toys.method(channels=3, exact=True, embedding=2, inner=inner)
    params = double(moved(method.initial(0)))
    params["inner.log_lr"] = torch.zeros((), dtype=torch.double)
    tokens = toys.batch(1, channels=3, tokens=4, dtype=np.float64).support[0]
    weight, bias = (params[f"head.{name}"].numpy() for name in ("weight", "bias"))
    rest = build_prior(params), tokens.numpy()
    effective = params["prior.log_effective"].exp().item()

    def value(flat):
        return objective_by_scipy(*rest, flat[:6].reshape(2, 3), flat[6:], effective, {**inner})

    start = np.concatenate([weight.ravel(), bias])
    found = method.adapt(params, tokens).fit.head
    step = np.concatenate([found.weight.ravel(), found.bias]) - start
    np.testing.assert_allclose(-step, optimize.approx_fprime(start, value, 1e-7), atol=1e-5)


def test_support_scores_leave_out_the_image_that_they_score():
    method = toys.method(exact=True, inner={"steps": 0})
    params = double(method.initial(0))
    support = toys.batch(1, dtype=np.float64).support[0]
    adapted = method.adapt(params, support)
    for i in range(len(support)):
        rest = torch.cat([support[:i], support[i + 1 :]])
        alone = method.score(method.adapt(params, rest), support[i : i + 1]).image
        torch.testing.assert_close(method.support_scores(adapted)[i : i + 1], alone)


@pytest.mark.parametrize("grid", [1, 3])
@pytest.mark.parametrize("order", ["exact", "first"])
@pytest.mark.parametrize("broad", ["inflated", "fixed"])
def test_a_batch_under_vmap_equals_a_loop_over_its_episodes(grid, order, broad):
    settings = {"inner": {"order": order}, "broad": {"law": broad}, "loss": {"dense": 1.0}}
    method = toys.method(grid=grid, exact=True, **settings)
    params = double(moved(method.initial(0)))
    episodes = toys.batch(3, tokens=grid**2, dtype=np.float64)
    together = toys.gradients(method, params, episodes)
    singles = [toys.gradients(method, params, toys.one(episodes, i)) for i in range(3)]
    for name, gradient in together.items():
        if gradient is None:
            continue
        mean = sum(single[name] for single in singles) / 3
        torch.testing.assert_close(gradient, mean, rtol=1e-7, atol=1e-10)
    losses = [method.loss(params, toys.one(episodes, i))[0] for i in range(3)]
    torch.testing.assert_close(method.loss(params, episodes)[0], sum(losses) / 3)


def test_evaluation_and_training_score_alike():
    method = toys.method(exact=True, loss={"contrastive": 0.0})
    params = double(moved(method.initial(0)))
    episode = toys.batch(1, dtype=np.float64)
    log_odds = method.score(method.adapt(params, episode.support[0]), episode.query[0]).log_odds
    expected = balanced_cross_entropy(log_odds, episode.labels[0], 0.5)
    torch.testing.assert_close(method.loss(params, episode)[0], expected)


def test_balanced_cross_entropy_by_hand():
    logits, labels = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 0.0, 0.0])
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    good = -(np.log(sigmoid(1.0)) + np.log(sigmoid(-0.5))) / 2
    expected = 0.2 * -np.log(sigmoid(2.0)) + 0.8 * good
    assert balanced_cross_entropy(logits, labels, 0.2).item() == pytest.approx(expected, rel=1e-6)
    weights = torch.tensor([1.0, 1.0, 0.0])
    expected = 0.2 * -np.log(sigmoid(2.0)) + 0.8 * -np.log(sigmoid(1.0))
    found = balanced_cross_entropy(logits, labels, 0.2, weights)
    assert found.item() == pytest.approx(expected, rel=1e-6)
    empty = balanced_cross_entropy(logits, torch.zeros(3), 0.2, torch.zeros(3))
    assert empty.item() == 0


def test_tokens_of_unknown_masks_do_not_enter_the_dense_loss():
    method = toys.method(loss={"dense": 1.0, "contrastive": 0.0})
    params = method.initial(0)
    episode = toys.batch(1)
    blind = episode.masks.clone()
    blind[0, 5] = 255
    hidden = replace(episode, masks=blind)
    lies = blind.clone()
    lies[0, 4] = 255
    fewer = replace(episode, masks=lies)
    dense = [method.loss(params, e)[1]["dense"] for e in (episode, hidden, fewer)]
    assert len(set(dense)) == 3
    nothing = replace(episode, masks=torch.full_like(blind, 255))
    assert method.loss(params, nothing)[1]["dense"] == 0


@pytest.mark.parametrize("contrastive", [0.0, 0.1])
def test_the_loss_is_the_weighted_sum_of_its_parts(contrastive):
    method = toys.method(loss={"dense": 0.5, "contrastive": contrastive})
    loss, parts = method.loss(method.initial(0), toys.batch(2))
    expected = parts["log_odds"] + 0.5 * parts["dense"] + contrastive * parts.get("contrastive", 0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert ("contrastive" in parts) == (method.variant is None) == bool(contrastive)


def test_a_round_zero_prior_of_empirical_bayes_is_used():
    method = toys.method(prior={"covariance": "diagonal", "extra_dof": 5.0, "scale": 1.0})
    start = method.initial(0)
    random = stream(0, "sites")
    stored = [torch.tensor(random.normal(3, 2, (20, 9, 4)), dtype=torch.float32) for _ in range(4)]
    parts = [method.statistics(start, site) for site in stored]
    total = {name: sum(part[name] for part in parts) for name in parts[0]}
    assert total["sites"].item() == 4
    assert total["count"].item() == pytest.approx(4 * 20 * 4)  # four effective tokens an image
    fitted = method.initial(0, total)
    assert fitted["prior.mean"].tolist() == pytest.approx([3.0] * 4, abs=0.5)
    assert build_prior(fitted).scale.diagonal().tolist() == pytest.approx([20.0] * 4, rel=0.2)
    others = ("score.bias", "head.weight")
    assert all(torch.equal(start[name], fitted[name]) for name in others)


def test_the_seed_decides_round_zero():
    method = toys.method(embedding=2)
    one, same, other = (method.initial(seed) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])
    assert all(value.dtype == torch.float32 for value in one.values())


def test_the_size_counts_head_location_and_scale():
    method = toys.method()
    adapted = method.adapt(method.initial(0), toys.batch(1).support[0])
    assert method.size(adapted) == 4 * (16 + 4 + 4 + 10 + 5)


MODES = [
    ("head", toys.TIMM),
    ("adapters", toys.TIMM),
    ("all", "conv4"),
    ("all", "test_efficientnet"),
]


@pytest.mark.parametrize(("trainable", "name"), MODES)
def test_every_trainable_mode_gives_gradients_to_its_tail(trainable, name):
    settings = toys.experiment(
        backbone={"trainable": trainable, "name": name, "grid": 2},
        method={"embedding": 8, "loss": {"dense": 1.0}},
    )
    encoder = build_encoder(settings, CPU)
    method = build_method(settings.method, encoder)
    random = torch_stream(0, "pictures")
    pictures = torch.randint(0, 256, (7, 3, 32, 32), dtype=torch.uint8, generator=random)
    stored = encoder.trunk(pictures)
    tokens = None if not encoder.tail.convolves else torch.tensor([[0, 3, 2]])
    masks = torch.zeros((1, 4, 4), dtype=torch.uint8)
    masks[0, 2:, 0] = 1
    episode = replace(
        toys.batch(1),
        support=stored[None, :3],
        query=stored[None, 3:],
        labels=torch.tensor([[0.0, 0.0, 1.0, 1.0]]),
        masks=masks if tokens is None else masks[:, :, tokens[0]],
        tokens=tokens,
    )
    found = toys.gradients(method, method.initial(0), episode)
    tails = {name: value for name, value in found.items() if name.startswith("tail.")}
    assert bool(tails) == (trainable != "head")
    # The adapters start at W_u = 0, behind which the first step sees nothing.
    asleep = {"tail.down.weight", "tail.depthwise.weight"} if trainable == "adapters" else set()
    for name, value in found.items():
        assert value is not None, name
        assert value.isfinite().all(), name
        assert bool(value.any()) == (name not in asleep), name


@pytest.mark.parametrize("objective", ["predictive", "leave-one-out"])
@pytest.mark.parametrize("normalise", [False, True])
def test_the_low_rank_form_of_the_image_grain_equals_the_full_one(objective, normalise):
    inner = {"steps": 2, "objective": objective}
    settings = {"inner": inner, "normalise": normalise, "grid": 1, "exact": True}
    low = toys.method(prior={"covariance": "diagonal"}, **settings)
    full = toys.method(prior={"covariance": "full"}, **settings)
    episodes = toys.batch(tokens=1, dtype=np.float64)
    exact = [{k: v.double() for k, v in m.initial(0).items()} for m in (low, full)]
    losses = [m.loss(p, episodes)[0] for m, p in zip((low, full), exact, strict=True)]
    torch.testing.assert_close(*losses)
    weights = [
        toys.gradients(m, p, episodes)["head.weight"]
        for m, p in zip((low, full), exact, strict=True)
    ]
    torch.testing.assert_close(*weights)


def scored_with(params, episode, **settings):
    method = toys.method(exact=True, prior={"covariance": "full"}, **settings)
    return method.score(method.adapt(params, episode.support[0]), episode.query[0])


def test_an_invertible_head_is_undone_by_the_posterior_but_for_the_prior():
    settings = {"inner": {"steps": 0}}
    method = toys.method(exact=True, prior={"covariance": "full"}, **settings)
    params = double(moved(method.initial(0)))
    episode = toys.batch(1, dtype=np.float64)
    other = double(moved(params, key=1))
    # W = U W_0 carries the prior NIW(m, Psi) to NIW(U (m - b_0) + b, U Psi U^T).
    carry = other["head.weight"] @ torch.linalg.inv(params["head.weight"])
    prior = build_prior(params)
    factor = torch.linalg.cholesky(carry @ prior.scale @ carry.mT)
    carried = params | {
        "head.weight": other["head.weight"],
        "head.bias": other["head.bias"],
        "prior.mean": carry @ (prior.mean - params["head.bias"]) + other["head.bias"],
        "prior.factor": factor.tril(-1) + factor.diagonal().log().diag(),
    }
    found = [scored_with(p, episode, **settings) for p in (params, carried)]
    torch.testing.assert_close(found[0].tokens, found[1].tokens)
    torch.testing.assert_close(found[0].log_odds, found[1].log_odds)


def test_a_narrower_head_is_not():
    settings = {"inner": {"steps": 0}, "embedding": 2}
    method = toys.method(exact=True, prior={"covariance": "full"}, **settings)
    params = double(method.initial(0))
    episode = toys.batch(1, dtype=np.float64)
    turned = params | {"head.weight": params["head.weight"].roll(1, dims=1)}
    found = [scored_with(p, episode, **settings).tokens for p in (params, turned)]
    assert (found[0] - found[1]).abs().mean() > 0.05


def test_the_inner_loop_of_the_demo_acts():
    method = BayPrAnoMeta(
        load_experiment(EXPERIMENTS / "demo.yaml").method, toys.encoder(64, grid=10)
    )
    params = method.initial(0)
    episode = toys.batch(1, tokens=100, channels=64)
    step = method.adapt(params, episode.support[0]).fit.head.weight - params["head.weight"]
    assert step.norm() > 0.005 * params["head.weight"].norm()
