from __future__ import annotations

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.serverapp.strategy.multikrum import select_multikrum
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from bayfed.config.updates import Defence
from bayfed.errors import FederationError
from strategies.rules import multi_krum, rule_of, trimmed_mean, weighted_mean
from strategies.task import Params


def updates(number: int, seed: int) -> list[Params]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {"a": torch.randn(3, 2, generator=generator), "b": torch.randn((), generator=generator)}
        for _ in range(number)
    ]


@given(st.integers(5, 12), st.integers(1, 2), st.integers(0, 99))
def test_the_trimmed_mean_is_scipys(number: int, hostile: int, seed: int) -> None:
    given_ = updates(number, seed)
    expected = trim_mean(
        np.stack([u["a"].double().numpy() for u in given_]), (hostile + 0.5) / number, axis=0
    )
    np.testing.assert_allclose(trimmed_mean(given_, hostile)["a"], expected, rtol=1e-5, atol=1e-6)


@given(st.integers(6, 12), st.integers(1, 2), st.integers(0, 99))
def test_krum_chooses_whom_flower_chooses(number: int, hostile: int, seed: int) -> None:
    given_ = updates(number, seed)
    records = [
        RecordDict({str(i): ArrayRecord({k: Array(v.double().numpy()) for k, v in u.items()})})
        for i, u in enumerate(given_)
    ]
    # Flower takes a record's one key, so all have the same.
    named = [RecordDict({"arrays": next(iter(r.array_records.values()))}) for r in records]
    chosen = select_multikrum(named, hostile, number - hostile)
    expected = np.mean([next(iter(r.array_records.values()))["a"].numpy() for r in chosen], axis=0)
    found = multi_krum(given_, [1.0] * number, hostile)["a"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "multi_krum"])
@pytest.mark.parametrize("size", [1e3, -1e30])
def test_a_hostile_update_moves_a_rule_no_further_than_the_honest_lie(
    rule: str, size: float
) -> None:
    honest = updates(7, 0)
    hostile = {name: torch.full_like(tensor, size) for name, tensor in honest[0].items()}
    found = rule_of(Defence(rule=rule, hostile=1))([*honest, hostile], [1.0] * 8)
    for name, tensor in found.items():
        values = torch.stack([u[name] for u in honest])
        assert bool((tensor >= values.min(dim=0).values).all())
        assert bool((tensor <= values.max(dim=0).values).all())
    assert float(weighted_mean([*honest, hostile], [1.0] * 8)["b"].abs()) > 100


@pytest.mark.parametrize(("rule", "least"), [("trimmed_mean", 3), ("multi_krum", 4)])
def test_too_few_updates_for_a_rule_are_an_error(rule: str, least: int) -> None:
    chosen = rule_of(Defence(rule=rule, hostile=1))
    chosen(updates(least, 0), [1.0] * least)
    with pytest.raises(FederationError, match=f"{least} are needed"):
        chosen(updates(least - 1, 0), [1.0] * (least - 1))


@pytest.mark.parametrize("hostile", [2, 3])
def test_krum_does_not_choose_those_who_agree_on_one_update(hostile: int) -> None:
    honest, agreed = updates(hostile + 2, 0), updates(1, 1)[0]
    agreed = {name: tensor + 1e3 for name, tensor in agreed.items()}
    given_ = [*honest, *[agreed] * hostile]
    found = multi_krum(given_, [1.0] * len(given_), hostile)
    assert all(float(tensor.abs().max()) < 100 for tensor in found.values())
    with pytest.raises(FederationError, match=f"{2 * hostile + 2} are needed"):
        multi_krum(given_[1:], [1.0] * (len(given_) - 1), hostile)
