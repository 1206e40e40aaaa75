"""Two views of a token, and supports with their mirror images."""

from dataclasses import replace

import pytest
import torch

from bayfed.config import BayPrAnoMeta as Settings
from bayfed.data.turned import MIRRORED
from bayfed.episodes.episode import EpisodeBatch
from bayfed.features import build_encoder
from bayfed.features.views import OnGrid, PartTail
from bayfed.methods import BayPrAnoMeta, build_method
from bayfed.methods.views import WEIGHT, Views
from bayfed.seeds import torch_stream
from tests import toys

FIRST, SECOND, GRID = 3, 2, 4


class ExactPart(PartTail):
    """Keeps the precision of its input."""

    def __call__(self, params, stored):
        del params
        return stored[..., self.first : self.last]


def encoder(*views):
    made = toys.encoder(sum(views), grid=GRID, exact=True)
    if len(views) == 1:
        return made
    ends = [sum(views[:i]) for i in range(len(views) + 1)]
    seen = tuple(OnGrid(ExactPart(*ends[i : i + 2]), GRID) for i in range(len(views)))
    return replace(made, views=seen)


def built(views=(FIRST, SECOND), **settings):
    tree = {"inner": {"steps": 0}, "loss": {"contrastive": 0.1, "dense": 1.0}, **settings}
    return build_method(Settings.model_validate(tree), encoder(*views))


def tokens(number, channels=FIRST + SECOND, key=0):
    shape = (number, GRID * GRID, channels)
    return torch.randn(shape, generator=torch_stream(key, "tokens"), dtype=torch.float64)


def double(params):
    return {name: value.double() for name, value in params.items()}


def alone(params, prefix=""):
    """The parameters of one view."""
    if prefix:
        return {k.removeprefix(prefix): v for k, v in params.items() if k.startswith(prefix)}
    return {k: v for k, v in params.items() if not k.startswith(("wide.", "views."))}


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_a_score_is_the_weighted_sum_of_two_detectors_that_know_nothing_of_each_other(weight):
    both = built(wide={"weight": weight, "top_k": 0.5})
    assert isinstance(both, Views)
    params, support, query = double(both.initial(0)), tokens(4), tokens(6, key=1)
    adapted = both.adapt(params, support)
    found = both.score(adapted, query)
    first, second = built((FIRST,)), built((SECOND,), top_k=0.5)
    halves = [
        (first, alone(params), slice(None, FIRST)),
        (second, alone(params, "wide."), slice(FIRST, None)),
    ]
    image = torch.zeros(6, dtype=torch.float64)
    own, maps, size = torch.zeros(4, dtype=torch.float64), torch.zeros(6, GRID * GRID), 4
    for (method, params_of, part), share in zip(halves, (1.0, weight), strict=True):
        fit = method.adapt(params_of, support[..., part])
        scores = method.score(fit, query[..., part])
        image, maps = image + share * scores.image, maps + share * scores.tokens
        own = own + share * method.support_scores(fit)
        size += method.size(fit)
    torch.testing.assert_close(found.image, image)
    torch.testing.assert_close(found.tokens, maps)
    torch.testing.assert_close(both.support_scores(adapted), own)
    assert both.size(adapted) == size
    gain, bias = params["score.log_gain"].exp(), params["score.bias"]
    torch.testing.assert_close(found.log_odds, gain * (image - own.mean()) + bias)


def episodes(support):
    labels = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    masks = torch.zeros(1, 4, GRID * GRID, dtype=torch.uint8)
    masks[:, 2:, :3] = 1
    query = tokens(4, key=1).float()
    query[2:, :3] += 3
    return EpisodeBatch(support.float()[None], query[None], labels, masks)


def test_without_weight_the_loss_is_that_of_the_first_view_and_pulls_at_the_weight():
    both, support = built(), tokens(3)
    params = {k: v.requires_grad_() for k, v in both.initial(0).items()}
    batch = episodes(support)
    loss, parts = both.loss(params, batch)
    first = built((FIRST,))
    part = replace(batch, support=batch.support[..., :FIRST], query=batch.query[..., :FIRST])
    expected, wanted = first.loss(alone(params), part)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(parts, wanted)
    loss.backward()
    assert params[WEIGHT].grad.abs() > 1e-4
    assert params["wide.head.weight"].grad.abs().max() == 0


def test_training_finds_the_view_that_sees_the_defects():
    both = built(loss={"contrastive": 0.0, "dense": 0.0})
    params = both.initial(0)
    weight = params[WEIGHT].requires_grad_()
    support = tokens(4)
    optimiser = torch.optim.Adam([weight], 0.05)
    for _ in range(40):
        batch = episodes(support)
        query = batch.query.clone()
        query[..., :FIRST] = tokens(4, FIRST, key=2).float()
        optimiser.zero_grad()
        both.loss(params | {WEIGHT: weight}, replace(batch, query=query))[0].backward()
        optimiser.step()
    assert weight.item() > 0.5


def test_statistics_of_both_views_make_both_priors():
    both = built(prior={"init": "empirical-bayes"})
    params, normals = both.initial(0), tokens(12)
    sums = both.statistics(params, normals)
    found = both.initial(0, sums)
    second = built((SECOND,), prior={"init": "empirical-bayes"})
    expected = second.initial(0, second.statistics(second.initial(0), normals[..., FIRST:]))
    for name, value in expected.items():
        torch.testing.assert_close(found[f"wide.{name}"], value)


def test_one_view_and_the_image_grain_stay_one_detector():
    assert isinstance(built((FIRST,)), BayPrAnoMeta)
    pooled = toys.experiment(
        backbone={
            "name": toys.TIMM,
            "trainable": "head",
            "wide": {"layer": "stages.3", "channels": 4},
        },
        method={"grain": "image"},
    )
    made = build_encoder(pooled, torch.device("cpu"))
    assert isinstance(build_method(pooled.method, made), BayPrAnoMeta)


def test_mirror_images_widen_the_image_that_they_belong_to():
    upright, mirrored = built((FIRST,)), built((FIRST,), mirrored=True)
    assert mirrored.poses == MIRRORED
    params = double(upright.initial(0))
    images, query = tokens(3, FIRST), tokens(2, FIRST, key=1)
    same = mirrored.adapt(params, images.repeat_interleave(3, 0))
    plain = upright.adapt(params, images)
    torch.testing.assert_close(same.fit.support_scores, plain.fit.support_scores)
    torch.testing.assert_close(mirrored.score(same, query).image, upright.score(plain, query).image)
    poses = torch.stack([images, images + 1, images - 2], 1).flatten(0, 1)
    pooled = torch.stack([images, images + 1, images - 2], 1).flatten(1, 2)
    wide, whole = mirrored.adapt(params, poses), upright.adapt(params, pooled)
    torch.testing.assert_close(wide.fit.law.weight, whole.fit.law.weight)
    rest = upright.adapt(params, pooled[1:])
    score = upright.score(rest, images[:1]).image
    torch.testing.assert_close(wide.fit.support_scores[:1], score)


def test_mirror_images_have_a_gradient_too():
    method = built((FIRST,), mirrored=True, inner={"steps": 1})
    params = {k: v.requires_grad_() for k, v in method.initial(0).items()}
    batch = episodes(tokens(9))
    batch = replace(batch, support=batch.support[..., :FIRST], query=batch.query[..., :FIRST])
    loss, _ = method.loss(params, batch)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in params.values() if p.grad is not None)


def test_a_pooled_vector_has_no_mirror_image():
    with pytest.raises(ValueError, match=r"method\.mirrored"):
        Settings(grain="image", mirrored=True)
