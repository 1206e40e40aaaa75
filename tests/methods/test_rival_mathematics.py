"""Each rival of BayPrAnoMeta against numpy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import optimize

from bayfed.seeds import torch_stream
from tests import toys

STEP = {"steps": 1, "lr": 1.0}


def moved(method, key=0):
    """Float64 parameters away from round 0, with an inner rate of 1."""
    params = {
        name: value.double() + 0.2 * torch.randn(value.shape, generator=torch_stream(key, name))
        for name, value in method.initial(0).items()
    }
    return params | {"inner.log_lr": torch.zeros((), dtype=torch.double)}


def episode(grid=3):
    return toys.batch(1, tokens=grid**2, channels=3, dtype=np.float64)


def embedded(weight, bias, tokens, normalise=True):
    """Embed tokens by numpy."""
    z = tokens @ weight.T + bias
    if not normalise:
        return z
    return (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-5)


def body_of(params):
    return params["head.weight"].numpy(), params["head.bias"].numpy()


def highest(tokens, number):
    return np.sort(tokens, axis=-1)[:, -number:].mean(-1)


def test_protonet_scores_by_the_distance_to_the_mean():
    method = toys.system("protonet", channels=3, exact=True)
    params, one = moved(method), episode()
    support, query = (
        embedded(*body_of(params), part[0].numpy(), normalise=False)
        for part in (one.support, one.query)
    )
    squared = ((query - support.reshape(-1, 3).mean(0)) ** 2).sum(-1)
    found = method.score(method.adapt(params, one.support[0]), one.query[0])
    np.testing.assert_allclose(found.tokens, squared / 3, rtol=1e-9)
    np.testing.assert_allclose(found.image, highest(squared / 3, 3), rtol=1e-9)
    gain, bias = params["score.log_gain"].exp().item(), params["score.bias"].item()
    np.testing.assert_allclose(found.log_odds, gain * highest(squared / 3, 3) + bias, rtol=1e-9)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("grid", [1, 3])
def test_protomamls_first_classifier_is_that_of_the_prototypes(grid, normalise):
    settings = {"inner": {"steps": 0}, "normalise": normalise}
    method = toys.system("protomaml", channels=3, grid=grid, exact=True, **settings)
    params, one = moved(method), episode(grid)
    support, query = (
        embedded(*body_of(params), part[0].numpy(), normalise) for part in (one.support, one.query)
    )
    good, bad = support.reshape(-1, 3).mean(0), params["prototype.anomaly"].numpy()
    gap = ((query - good) ** 2).sum(-1) - ((query - bad) ** 2).sum(-1)
    expected = params["prototype.log_gain"].exp().item() * gap / 3
    found = method.score(method.adapt(params, one.support[0]), one.query[0])
    np.testing.assert_allclose(found.image, highest(expected, 1 if grid == 1 else 3), rtol=1e-9)
    if grid > 1:
        np.testing.assert_allclose(found.tokens, expected, rtol=1e-9)


def test_untrained_protomaml_ranks_as_the_distance_behind_layer_norm():
    method = toys.system("protomaml", channels=3, exact=True, inner={"steps": 0})
    params = {name: value.double() for name, value in method.initial(0).items()}
    one = episode()
    support, query = (
        embedded(*body_of(params), part[0].numpy()) for part in (one.support, one.query)
    )
    distance = ((query - support.reshape(-1, 3).mean(0)) ** 2).sum(-1)
    found = method.score(method.adapt(params, one.support[0]), one.query[0]).tokens.numpy()
    np.testing.assert_allclose(found - distance / 3, -np.ones_like(distance), atol=1e-3)


def good_cross_entropy(flat, tokens):
    """The mean of -ln(1 - sigmoid(l)) over a support, by numpy, of all weights in a row."""
    weight, bias, vector, constant = flat[:9].reshape(3, 3), flat[9:12], flat[12:15], flat[15]
    logits = embedded(weight, bias, tokens) @ vector + constant
    return -np.log1p(-1 / (1 + np.exp(-logits))).mean()


def in_a_row(weights):
    names = ("head.weight", "head.bias", "classifier.weight", "classifier.bias")
    return np.concatenate([weights[name].numpy().ravel() for name in names])


@pytest.mark.parametrize("name", ["maml", "anil", "protomaml"])
def test_an_inner_step_descends_the_cross_entropy_of_good(name):
    method, still = (
        toys.system(name, channels=3, exact=True, inner=inner) for inner in (STEP, {"steps": 0})
    )
    params, one = moved(method), episode()
    if "classifier.weight" in params:
        params["classifier.weight"] += 0.5
    support = one.support[0]
    begin, end = (in_a_row(m.adapt(params, support).weights) for m in (still, method))
    gradient = optimize.approx_fprime(begin, good_cross_entropy, 1e-7, support.numpy())
    assert np.abs(gradient[:12]).max() > 1e-3
    if name == "anil":
        gradient[:12] = 0.0
    np.testing.assert_allclose(begin - end, gradient, atol=1e-5)
    assert good_cross_entropy(end, support.numpy()) < good_cross_entropy(begin, support.numpy())


def test_anil_differs_from_maml_in_exactly_the_body():
    maml, anil = (toys.system(n, channels=3, exact=True, inner=STEP) for n in ("maml", "anil"))
    params, support = moved(maml), episode().support[0]
    assert params.keys() == moved(anil).keys()
    one, other = (m.adapt(params, support).weights for m in (maml, anil))
    differ = {name for name in params if not torch.equal(one[name], other[name])}
    assert differ == {"head.weight", "head.bias"}
    assert all(torch.equal(other[name], params[name]) for name in differ)


def test_untrained_maml_turns_against_the_mean_of_the_support():
    method = toys.system("maml", channels=3, exact=True, inner=STEP)
    params = {name: value.double() for name, value in method.initial(0).items()}
    support = episode().support[0]
    mean = embedded(*body_of(params), support.numpy()).reshape(-1, 3).mean(0)
    weights = method.adapt(params, support).weights
    np.testing.assert_allclose(weights["classifier.weight"], -mean / 2, rtol=1e-6)
    assert weights["classifier.bias"].item() == pytest.approx(-0.5, rel=1e-6)
