"""Replies that are seen while they are still on their way, on Flower's own function."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from flwr.supercore.inflatable.inflatable_utils import ObjectUnavailableError, pull_objects

from experiments.inprocess import InProcessGrid
from server import inbox
from server.inbox import Inbox
from tests.fakes import app

flower: Any = import_module(inbox.FLOWER)


@pytest.fixture(autouse=True)
def _as_flower_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower, "pull_objects", pull_objects)


def test_flower_fetches_replies_by_the_function_that_is_hastened() -> None:
    assert "pull_objects" in flower.HttpGrid.pull_messages.__code__.co_names


def test_what_is_on_its_way_is_looked_for_again_soon() -> None:
    Inbox(InProcessGrid(app, 1), together=False)
    looks: list[str] = []

    def upload(name: str) -> bytes:
        looks.append(name)
        if len(looks) < 3:
            raise ObjectUnavailableError(name)
        return b"content"

    # Flower's own third look comes after 2.4 s or more.
    assert flower.pull_objects(["a"], upload, max_time=2.0) == {"a": b"content"}
    assert flower.pull_objects.keywords == {
        "initial_backoff": inbox.AGAIN, "backoff_cap": inbox.SELDOM,
    }  # fmt: skip


def test_a_second_inbox_hastens_no_further_and_a_simulation_not_at_all() -> None:
    before = flower.pull_objects
    Inbox(InProcessGrid(app, 1), together=True)
    assert flower.pull_objects is before
    Inbox(InProcessGrid(app, 1), together=False)
    once = flower.pull_objects
    Inbox(InProcessGrid(app, 1), together=False)
    assert flower.pull_objects is once
