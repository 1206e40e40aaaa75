"""A fitted detector taken apart, put together and extended."""

import pytest
import torch
from torch.func import grad

from bayfed.errors import NumericalError
from bayfed.methods.base import KeptMethod
from bayfed.methods.folded import FoldedT
from bayfed.methods.surprise import inflated_at, slope
from bayfed.seeds import torch_stream
from tests import toys
from tests.methods.test_views import GRID, built


def views_of(**settings):
    return built(wide={"weight": 0.7, "top_k": 0.5}, **settings), 5, GRID * GRID


def patches(**settings):
    return toys.method(4, 3, exact=True, **settings), 4, 9


def images(**settings):
    return toys.method(4, 1, exact=True, **settings), 4, 1


NO_STEPS = {"inner": {"steps": 0}}
FULL = {"prior": {"covariance": "full", "effective": 4.0}}
SYSTEMS = [
    (views_of, {}), (patches, NO_STEPS), (patches, {"inner": {"steps": 2}}),
    (patches, NO_STEPS | {"relu": True}), (images, NO_STEPS), (images, NO_STEPS | FULL),
    (patches, NO_STEPS | FULL | {"mirrored": True}),
]  # fmt: skip


def outputs(method, number, tokens, channels, key=0):
    shape = (number * len(method.poses), tokens, channels)
    return torch.randn(shape, generator=torch_stream(key, "kept"), dtype=torch.double)


def prepared(make, settings):
    method, channels, tokens = make(**settings)
    params = {name: value.double() for name, value in method.initial(0).items()}
    return method, params, lambda number, key: outputs(method, number, tokens, channels, key)


def same_scores(method, one, other, query, exactly=True):
    close = {"rtol": 0, "atol": 0} if exactly else {}
    for a, b in zip(method.score(one, query)[:2], method.score(other, query)[:2], strict=True):
        if a is not None:
            torch.testing.assert_close(a, b, **close)


@pytest.mark.parametrize(("make", "settings"), SYSTEMS)
def test_what_is_restored_scores_the_same_bit_for_bit(make, settings):
    method, params, draw = prepared(make, settings)
    assert isinstance(method, KeptMethod)
    tensors = method.tensors(method.adapt(params, draw(4, 0)))
    once = method.restore(params, tensors)
    copied = {name: value.clone() for name, value in method.tensors(once).items()}
    query = draw(3, 1)[:: len(method.poses)]
    same_scores(method, once, method.restore(params, copied), query)
    same_scores(method, once, method.adapt(params, draw(4, 0)), query, exactly=False)


@pytest.mark.parametrize(("make", "settings"), SYSTEMS)
def test_extending_is_a_fit_to_all_images_where_no_steps_adapt_the_head(make, settings):
    if settings.get("inner", {}).get("steps"):
        pytest.skip("a new fit adapts the head to the new images as well")
    method, params, draw = prepared(make, settings)
    old, new = draw(4, 0), draw(2, 1)
    extended = method.extend(method.adapt(params, old), new)
    whole = method.adapt(params, torch.cat([old, new]))
    same_scores(method, extended, whole, draw(3, 2)[:: len(method.poses)], exactly=False)
    later = method.support_scores(extended)[4:]
    torch.testing.assert_close(later, method.support_scores(whole)[4:])


def test_behind_an_adapted_head_extending_keeps_the_head():
    method, params, draw = prepared(patches, {"inner": {"steps": 2, "lr": 0.1}})
    adapted = method.adapt(params, draw(4, 0))
    extended = method.extend(adapted, draw(2, 1))
    assert torch.equal(extended.fit.head.weight, adapted.fit.head.weight)
    whole = method.adapt(params, torch.cat([draw(4, 0), draw(2, 1)]))
    assert not torch.allclose(whole.fit.head.weight, adapted.fit.head.weight)


@pytest.mark.parametrize(("make", "settings"), SYSTEMS)
def test_the_sum_of_all_images_makes_the_same_law(make, settings):
    method, params, draw = prepared(make, settings)
    adapted = method.adapt(params, draw(4, 0))
    same_scores(method, adapted, method.compact(adapted), draw(3, 1), exactly=False)


def test_an_extended_sum_is_the_extended_support():
    method, params, draw = prepared(patches, NO_STEPS)
    adapted, new = method.adapt(params, draw(4, 0)), draw(2, 1)
    summed = method.extend(method.compact(adapted), new)
    same_scores(method, method.extend(adapted, new), summed, draw(3, 2), exactly=False)


@pytest.mark.parametrize(("make", "settings"), SYSTEMS)
def test_the_variance_from_the_parameters_falls_as_supports_grow(make, settings):
    method, params, draw = prepared(make, settings)
    query, shares = draw(8, 1)[:: len(method.poses)], []
    for number in (2, 20):
        spread = method.score(method.adapt(params, draw(number, 0)), query, spread=True).spread
        shares.append((spread.parameters / (spread.parameters + spread.tokens)).mean().item())
    assert 0 < shares[1] < shares[0] < 1


@pytest.mark.parametrize(("make", "settings"), SYSTEMS)
def test_what_each_law_sees_makes_its_own_distances(make, settings):
    method, params, draw = prepared(make, settings)
    adapted, query = method.adapt(params, draw(4, 0)), draw(3, 1)[:: len(method.poses)]
    views = method.seen(adapted, query)
    for view in views:
        law = view.adapted.fit.law
        distance = law.distance(view.inputs)
        assert distance.shape == query.shape[:2]
        assert distance.mean() < 50 * law.location.shape[-1]
    assert [view.weight for view in views][1:] == ([pytest.approx(0.7)] if make is views_of else [])


def test_the_slope_is_the_derivative_of_the_surprise():
    one = torch.ones((), dtype=torch.double)
    params = {"score.inflation": 1.3 * one}
    law = FoldedT(one, one, one, 7 * one, torch.zeros(3, dtype=torch.double))
    for distance in (0.5 * one, 40 * one):
        of = grad(lambda d: inflated_at(params, d, law.dof, 3))
        torch.testing.assert_close(slope(params, law, distance), of(distance))


@pytest.mark.parametrize("name", ["support.count", "support.scatter", "scores", "tokens"])
def test_tensors_of_a_wrong_shape_are_refused(name):
    method, params, draw = prepared(patches, NO_STEPS)
    tensors = method.tensors(method.adapt(params, draw(4, 0)))
    with pytest.raises(ValueError, match="support"):
        method.restore(params, tensors | {name: tensors[name][None]})


def test_a_law_that_is_not_finite_is_refused():
    method, params, draw = prepared(patches, NO_STEPS)
    tensors = method.tensors(method.adapt(params, draw(4, 0)))
    broken = tensors | {"support.scatter": -1e9 * tensors["support.scatter"]}
    with pytest.raises(NumericalError, match="posterior"):
        method.restore(params, broken)


def test_known_exactly_a_law_has_gaussian_tails():
    method, params, draw = prepared(patches, NO_STEPS)
    adapted, far = method.adapt(params, draw(4, 0)), 10 * draw(1, 1)
    assert method.score(method.certain(adapted), far).image > method.score(adapted, far).image
