from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bayfed.methods.contrastive import supervised_contrastive
from bayfed.seeds import stream

QUICK = settings(max_examples=30, deadline=None, derandomize=True)


def by_loops(embeddings, labels, temperature):
    units = [z / np.linalg.norm(z) for z in embeddings]
    terms = []
    for i, u in enumerate(units):
        others = [a for a in range(len(units)) if a != i]
        positives = [p for p in others if labels[p] == labels[i]]
        if not positives:
            continue
        below = sum(math.exp(u @ units[a] / temperature) for a in others)
        shares = [math.log(math.exp(u @ units[p] / temperature) / below) for p in positives]
        terms.append(-sum(shares) / len(positives))
    return sum(terms) / len(terms) if terms else 0.0


@QUICK
@given(
    labels=st.lists(st.integers(0, 1), min_size=1, max_size=7),
    temperature=st.sampled_from([0.07, 0.5, 2.0]),
    seed=st.integers(0, 100),
)
def test_it_equals_a_loop_over_pairs(labels, temperature, seed):
    z = stream(seed, "contrastive").normal(size=(len(labels), 3))
    found = supervised_contrastive(torch.tensor(z), torch.tensor(labels), temperature)
    assert found.item() == pytest.approx(by_loops(z, labels, temperature), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("temperature", [1e-3, 0.01, 0.07])
def test_opposite_embeddings_at_a_low_temperature_stay_finite(temperature):
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.1], [0.0, 1.0]], requires_grad=True)
    loss = supervised_contrastive(z, torch.tensor([0, 0, 1]), temperature)
    loss.backward()
    assert loss.isfinite()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_a_query_alone_costs_nothing():
    z = torch.ones(1, 2, requires_grad=True)
    supervised_contrastive(z, torch.tensor([1]), 0.07).backward()
    assert z.grad is not None
    assert not z.grad.any()


def test_length_does_not_count_and_separation_does():
    labels = torch.tensor([0, 0, 1, 1])
    apart = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    mixed = apart[[0, 2, 1, 3]]
    torch.testing.assert_close(
        supervised_contrastive(apart, labels, 0.5), supervised_contrastive(9 * apart, labels, 0.5)
    )
    assert supervised_contrastive(apart, labels, 0.5) < supervised_contrastive(mixed, labels, 0.5)
