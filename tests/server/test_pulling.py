"""Replies of which a part never comes, on Flower's own way of taking them."""

import threading
import time
from importlib import import_module
from typing import Any

import pytest
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError

from server import pulling


class UploadingGrid:
    """Takes one reply as Flower's Grid does, by the function of that module."""

    def __init__(self, complete: threading.Event) -> None:
        self.complete = complete
        self.looks: list[float] = []

    def pull_messages(self, ids: Any) -> list[Any]:
        try:
            return [import_module(pulling.FLOWER).pull_objects(list(ids), self.look)]
        except ObjectPullError as error:
            return [error]

    def look(self, name: str) -> bytes:
        self.looks.append(time.monotonic())
        if self.complete.is_set():
            return name.encode()
        raise ObjectUnavailableError(name)


def test_flower_takes_replies_by_the_function_that_is_replaced() -> None:
    flower = import_module(pulling.FLOWER)
    assert "pull_objects" in flower.HttpGrid.pull_messages.__code__.co_names


def test_a_reply_whose_tensors_come_a_little_later_is_taken_at_once() -> None:
    complete = threading.Event()
    grid = UploadingGrid(complete)
    threading.Timer(0.1, complete.set).start()

    (reply,) = pulling.pull(grid, {"a"}, 60.0)  # type: ignore[arg-type]

    assert reply == {"a": b"a"}
    assert len(grid.looks) > 1
    assert grid.looks[1] - grid.looks[0] < 0.8  # Flower's own second look comes no sooner


def test_an_upload_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "LEAST", 0.2)
    grid = UploadingGrid(threading.Event())

    (reply,) = pulling.pull(grid, {"a"}, 0.0)  # type: ignore[arg-type]

    assert isinstance(reply, ObjectPullError)
    assert grid.looks[-1] - grid.looks[0] < 2.0


def test_flower_is_left_as_it_was() -> None:
    flower = import_module(pulling.FLOWER)
    before = flower.pull_objects
    complete = threading.Event()
    complete.set()

    pulling.pull(UploadingGrid(complete), {"a"}, 1.0)  # type: ignore[arg-type]

    assert flower.pull_objects is before
