from __future__ import annotations

import multiprocessing
import os
from inspect import signature
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from flwr.proto.runtime_pb2 import AcquireTaskRequest, AcquireTaskResponse
from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree

from experiments import superexec

AWAY = httpx.ConnectError("nobody listens")


class Node:
    """Answers with what it was given, one after the other, and then with nothing."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)

    def AcquireTask(self, request: AcquireTaskRequest) -> AcquireTaskResponse:  # noqa: N802
        assert list(request.supported_task_types) == ["flwr-clientapp"]
        answer = self.answers.pop(0) if self.answers else ""
        if isinstance(answer, Exception):
            raise answer
        return AcquireTaskResponse(token=answer)


def started(monkeypatch: pytest.MonkeyPatch, nodes: dict[str, Node], rounds: int) -> list[Any]:
    """Serve ``nodes`` for some rounds and return for whom a process was started."""
    found: list[Any] = []
    loaded: list[str] = []
    pauses = iter(range(rounds - 1))

    def pause(_: float) -> None:
        if next(pauses, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(superexec, "_connect", lambda address, _: nodes[address])
    monkeypatch.setattr(superexec, "warm_context", loaded.extend)
    monkeypatch.setattr(superexec, "launch", lambda _, *task: found.append(task[:2]))
    monkeypatch.setattr(superexec.time, "sleep", pause)
    superexec.main([*nodes, "--load", "timm"])
    assert {"torch", "timm"} <= set(loaded)
    return found


def test_every_message_of_every_node_gets_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = {"a:1": Node("1", "2"), "b:2": Node("", "3")}
    assert started(monkeypatch, nodes, 2) == [("a:1", "1"), ("a:1", "2"), ("b:2", "3")]


def test_a_node_that_is_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = {"a:1": Node(AWAY, AWAY, "2"), "b:2": Node("1")}
    assert started(monkeypatch, nodes, 3) == [("b:2", "1"), ("a:1", "2")]


def test_a_node_that_refuses_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    response = httpx.Response(401, request=httpx.Request("POST", "http://a:1"))
    refusal = httpx.HTTPStatusError("no", request=response.request, response=response)
    with pytest.raises(httpx.HTTPStatusError):
        started(monkeypatch, {"a:1": Node(refusal)}, 3)


def allocate(megabytes: int) -> None:
    bytearray(megabytes << 20)


def test_a_process_may_hold_so_much_data_and_no_more() -> None:
    limits = superexec.Limits(memory=64 << 20)
    context = multiprocessing.get_context("fork")
    codes = []
    for megabytes in (16, 128):
        process = context.Process(target=bounded, args=(limits, megabytes))
        process.start()
        process.join()
        codes.append(process.exitcode)
    assert codes == [0, 7]


def bounded(limits: superexec.Limits, megabytes: int) -> None:
    superexec.run_clientapp = lambda: allocate(megabytes)  # type: ignore[attr-defined]
    try:
        superexec.run_client(limits, {})
    except MemoryError:
        os._exit(7)


def test_a_message_is_looked_for_again_soon() -> None:
    asked: list[dict[str, float]] = []
    flower = SimpleNamespace(pull_and_inflate_object_from_tree=lambda **how: asked.append(how))
    superexec.hasten(flower)
    flower.pull_and_inflate_object_from_tree()
    assert asked[0]["initial_backoff"] < 0.2
    known = signature(pull_and_inflate_object_from_tree).parameters
    assert asked[0].keys() <= known.keys()
