from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bayfed.config.updates import Uplink as Settings
from bayfed.errors import ConfigError, FederationError
from strategies.task import Params
from strategies.uplink import ERROR, Uplink
from tests import fakes

THETA = {"w": torch.zeros(40, 10), "b": torch.zeros(()), "fixed": torch.zeros(3)}
RATES = {"fixed": 0.0}
EMPTY = torch.zeros(0, dtype=torch.uint8)
FORMS = st.fixed_dictionaries(
    {
        "keep": st.sampled_from([0.05, 0.5, 1.0]),
        "select": st.sampled_from(["largest", "random"]),
        "bits": st.sampled_from([1, 2, 4, 8, 16, 32]),
    }
)


def update(seed: int) -> Params:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(t.shape, generator=generator) for name, t in THETA.items()}


def uplink(**settings: Any) -> Uplink:
    return Uplink(Settings(**settings), RATES)


@given(FORMS, st.integers(0, 99))
def test_what_is_lost_stays_at_the_client(form: dict[str, Any], seed: int) -> None:
    built, sent = uplink(**form), update(seed)
    payload, memory = built.send(sent, {}, 3, "a")
    received = built.receive(payload, THETA, 3)
    assert torch.equal(received["fixed"], torch.zeros(3))
    error = memory.get(ERROR, torch.zeros(401))
    whole = torch.cat([received["b"].reshape(-1), received["w"].reshape(-1)]) + error
    torch.testing.assert_close(whole, torch.cat([sent["b"].reshape(-1), sent["w"].reshape(-1)]))


@pytest.mark.parametrize("form", [{"keep": 0.05}, {"bits": 1}, {"keep": 0.1, "bits": 4}])
def test_the_errors_do_not_add_up(form: dict[str, Any]) -> None:
    built, memory = uplink(**form), Params()
    sent, received = torch.zeros(401), torch.zeros(401)
    for number in range(200):
        each = update(number % 3)
        payload, memory = built.send(each, memory, number, "a")
        got = built.receive(payload, THETA, number)
        sent += torch.cat([each["b"].reshape(-1), each["w"].reshape(-1)])
        received += torch.cat([got["b"].reshape(-1), got["w"].reshape(-1)])
    torch.testing.assert_close(sent - received, memory[ERROR], atol=1e-2, rtol=0)
    assert float(memory[ERROR].norm()) < 60 * float(torch.cat([each["w"].flatten()]).norm())


def test_random_coordinates_have_the_right_mean_without_feedback() -> None:
    built, sent = uplink(keep=0.25, select="random", feedback=False), update(0)
    rounds = [built.receive(built.send(sent, {}, n, "a")[0], THETA, n) for n in range(3000)]
    mean = torch.stack([r["w"] for r in rounds]).mean(dim=0)
    torch.testing.assert_close(mean, sent["w"], atol=0.35, rtol=0)
    assert all(torch.equal(r["b"], sent["b"]) for r in rounds)


def test_random_coordinates_are_those_of_all_clients() -> None:
    built = uplink(keep=0.25, select="random")
    found = [
        built.receive(built.send(update(c), {}, 1, str(c))[0], THETA, 1)["w"] != 0 for c in (1, 2)
    ]
    assert torch.equal(*found)


def test_nothing_is_changed_by_default() -> None:
    sent = update(0)
    payload, memory = uplink().send(sent, {}, 1, "a")
    assert memory == {}
    assert all(torch.equal(payload[name], sent[name]) for name in ("w", "b"))
    assert "fixed" not in payload


def test_a_client_clips_its_own() -> None:
    payload, _ = uplink(clip=1.0).send(update(0), {}, 1, "a")
    assert float(torch.cat([t.flatten() for t in payload.values()]).norm()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("form", "payload", "reason"),
    [
        ({"bits": 8}, {"bytes": torch.zeros(3, dtype=torch.uint8)}, "3 bytes"),
        ({"bits": 8}, {"bytes": torch.zeros(500, dtype=torch.uint8)}, "too many|no numbers"),
        ({"bits": 8}, {"bytes": torch.zeros(409)}, "bytes are expected"),
        ({"bits": 8}, {"bytes": torch.full((409,), 255, dtype=torch.uint8)}, "not finite"),
        ({"keep": 0.5}, {"values": torch.zeros(201), "gaps": EMPTY}, "0 indices"),
        ({"keep": 0.5}, {"values": torch.zeros(5), "gaps": EMPTY}, "5 float32 values"),
        ({"keep": 0.5}, {"values": torch.zeros(201)}, "gaps and values are expected"),
        ({"bits": 8}, {}, "arrays called bytes"),
        ({"bits": 8}, {"bytes": torch.zeros(2, 2, dtype=torch.uint8)}, "bytes are expected"),
        ({}, {"w": torch.zeros(2), "b": torch.zeros(())}, "has shape"),
        ({}, {"w": THETA["w"], "b": torch.tensor(torch.nan)}, "NaN"),
        ({}, {"w": THETA["w"], "b": THETA["b"], "fixed": torch.zeros(3)}, "not expected"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused(
    form: dict[str, Any], payload: Params, reason: str
) -> None:
    with pytest.raises(FederationError, match=reason):
        uplink(**form).receive(payload, THETA, 1)


@given(FORMS, st.binary(max_size=900))
def test_bytes_of_anybody_are_refused_or_finite(form: dict[str, Any], data: bytes) -> None:
    built = uplink(**form)
    if not built.settings.lossy:
        return
    found = torch.tensor(list(data), dtype=torch.uint8)
    payload = {"bytes": found} if built.settings.bits < 32 else {"values": found, "gaps": found}
    try:
        received = built.receive(payload, THETA, 1)
    except FederationError:
        return
    assert all(bool(torch.isfinite(tensor).all()) for tensor in received.values())


def test_signs_without_feedback_are_refused() -> None:
    with pytest.raises(ConfigError, match="signs alone are biased"):
        fakes.experiment(uplink={"bits": 1, "feedback": False})
