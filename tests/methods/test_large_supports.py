"""What holds for every system at supports of more images than are left out one by one."""

from __future__ import annotations

import pytest
import torch

from bayfed.config import parse_experiment
from bayfed.methods import build_method
from bayfed.methods.folds import SMALL, left_out, others
from bayfed.methods.thinned import thinned
from bayfed.seeds import torch_stream
from tests import toys

NAMES = [
    "patchcore", "anomalydino", "padim", "pca", "protonet", "protomaml", "maml", "anil",
    "baypranometa", "refinement",
]  # fmt: skip
FOLDED = ["patchcore", "anomalydino", "padim", "pca", "maml", "refinement"]


def built(name, **settings):
    turns = {"turns": 1} if name == "anomalydino" else {}
    tree = {"method": {"name": name, **turns, **settings}, "federation": {"rounds": 0}}
    return build_method(parse_experiment(tree).method, toys.encoder(4, 3))


def tokens(images, key="support"):
    return torch.randn(images, 9, 4, generator=torch_stream(0, key, images))


@pytest.mark.parametrize("name", NAMES)
def test_every_image_of_a_large_support_is_scored_by_others(name):
    method = built(name)
    support = tokens(23)
    support[7, :, 0] += 20
    adapted = method.adapt(method.initial(0), support)
    own = method.support_scores(adapted)
    assert own.shape == (23,) if not hasattr(method, "rejected") else len(own) < 23
    assert own.isfinite().all()
    if name not in ("anomalydino", "maml", "anil", "protomaml", "refinement"):
        assert own.argmax() == 7


@pytest.mark.parametrize("name", FOLDED)
def test_a_fold_is_scored_by_what_is_outside_it(name):
    changes = {"refine": {"cycles": 0}} if name == "refinement" else {}
    method = built(name, **changes)
    params, support = method.initial(0), tokens(SMALL + 5)
    own = method.support_scores(method.adapt(params, support))
    for part in left_out(len(support)):
        rest = method.adapt(params, support[others(part, len(support))])
        expected = method.score(rest, support[part]).image
        torch.testing.assert_close(own[part], expected, rtol=1e-4, atol=1e-5)


def test_a_memory_stays_within_its_bounds():
    for settings, kept in (({"candidates": 50}, 5), ({"candidates": 50, "coreset": 1.0}, 50)):
        method = built("patchcore", **settings)
        adapted = method.adapt(method.initial(0), tokens(20))
        assert len(adapted.model.patches) == kept
        assert method.support_scores(adapted).isfinite().all()
    method = built("anomalydino", patches=60)
    assert len(method.adapt(method.initial(0), tokens(20)).model.patches) == 60
    few = built("anomalydino", patches=60)
    assert len(few.adapt(few.initial(0), tokens(5)).model.patches) == 45


def test_what_is_kept_of_many_patches_lies_at_every_place_of_a_grid():
    kept = thinned(96 * 784, 10_000)
    assert len(kept.unique()) == 10_000
    columns = (kept % 28).bincount()
    assert columns.min() > 250
    assert torch.equal(kept, thinned(96 * 784, 10_000))
