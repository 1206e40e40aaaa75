from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from bayfed.data import Pixels
from bayfed.errors import DataError
from bayfed.serve import learning
from bayfed.serve.app import create_app
from bayfed.serve.service import Service, Settings, open_service
from tests.serve.lamp import Lamp, png
from tests.serve.test_reviewing import judge, score


def goods(path: Path) -> int:
    return int(json.loads(path.read_text())["goods"])


def previous(settings: Settings) -> Path:
    return settings.product.with_name("lamp.bayfed.previous")


def test_confirmed_goods_are_added_once_and_the_old_file_is_kept(
    client: TestClient, settings: Settings
) -> None:
    items = score(client, 0.55, 0.9, 0.1, 0.52)
    for item, verdict in zip(items, ("good", "defect", "good", "good"), strict=True):
        judge(client, item, verdict)
    (again,) = score(client, 0.55)
    judge(client, again, "good")
    before = client.get("/status").json()
    assert before["learnable"] == 3
    answer = client.post("/learn").json()
    after = client.get("/status").json()
    assert answer["revision"] == after["revision"] != before["revision"]
    assert (goods(settings.product), goods(previous(settings))) == (8, 5)
    assert after["learnable"] == 0
    assert client.post("/learn").status_code == 409
    learned = [item["learned"] is not None for item in client.get("/items").json()]
    assert learned == [True, True, True, False, True]
    assert "3 good parts added" in client.get("/events").json()[0]["text"]
    (later,) = client.post("/score", content=png(0.3)).json()["items"]
    assert later["revision"] == after["revision"]


def test_an_image_that_the_model_refuses_is_left_out_for_good(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def picky(self: Lamp, images: list[Pixels]) -> None:
        if any(image[0, 0, 0] == 1 for image in images):
            raise DataError("a support already")
        self.goods += len(images)

    monkeypatch.setattr(Lamp, "update", picky)
    for item in score(client, 0.55, 0.55, 0.55):
        judge(client, item, "good")
    assert client.post("/learn").status_code == 200
    assert goods(settings.product) == 7
    assert client.get("/status").json()["learnable"] == 0
    words = [event["text"] for event in client.get("/events").json()]
    assert "left out: a support already" in words


def test_a_failed_update_changes_nothing(
    client: TestClient, service: Service, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (item,) = score(client, 0.55)
    judge(client, item, "good")
    model = service.worker.model

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(learning, "write_atomic", no_room)
        assert client.post("/learn").status_code == 507
    assert service.worker.model is model
    assert goods(settings.product) == 5
    assert sorted(path.name for path in settings.product.parent.iterdir()) == [
        "lamp.bayfed", "lamp.data"
    ]  # fmt: skip
    assert client.get("/status").json()["learnable"] == 1
    assert client.post("/learn").status_code == 200


@pytest.mark.parametrize("moment", ["before the file", "after the file"])
def test_an_update_that_was_cut_off_is_finished_or_forgotten(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with open_service(settings, Lamp.load) as service:
        client = TestClient(create_app(service), "http://127.0.0.1")
        (item,) = score(client, 0.55)
        judge(client, item, "good")
        with monkeypatch.context() as patch:
            if moment == "before the file":
                patch.setattr(learning, "write_atomic", killed)
            else:
                patch.setattr(learning.Learning, "settle", killed)
            with pytest.raises(Killed):
                service.learning.learn()
    with open_service(settings, Lamp.load) as service:
        taken = moment == "after the file"
        assert goods(settings.product) == (6 if taken else 5)
        assert service.learning.count() == (0 if taken else 1)
        assert (service.history.get(item).learned is not None) == taken
