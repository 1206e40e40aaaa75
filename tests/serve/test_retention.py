from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from bayfed.serve.app import create_app
from bayfed.serve.originals import Originals
from bayfed.serve.retention import Retention
from bayfed.serve.service import Service, Settings, open_service
from tests.serve.lamp import Lamp
from tests.serve.test_reviewing import judge, score

LONG_AGO = "2001-01-01T00:00:00.000+00:00"


def age(service: Service, item: int) -> Path:
    """Let an item be from long ago, and return its picture."""
    with service.history._database.writing() as connection:
        connection.execute("UPDATE items SET received = ? WHERE id = ?", (LONG_AGO, item))
    path = service.worker._originals.path(service.history.get(item).digest)
    os.utime(path, (0, 0))
    return path


@pytest.fixture
def retention(service: Service) -> Retention:
    database, originals = service.history._database, service.worker._originals
    return Retention(30, service.worker, database, originals)


def test_old_pictures_go_and_their_decisions_stay(
    client: TestClient, service: Service, retention: Retention
) -> None:
    old, new = score(client, 0.1, 0.2)
    before = client.get("/export.csv").text.count("\n")
    kept = service.worker._originals.path(service.history.get(new).digest)
    assert age(service, old).is_file()
    assert retention.clean() == 1
    assert kept.is_file()
    assert client.get("/export.csv").text.count("\n") == before
    assert client.get("/status").json()["scored"] == 2
    answer = client.get(f"/items/{old}/overlay.jpg")
    assert answer.status_code == 404
    assert "no longer kept" in answer.json()["error"]
    assert client.get(f"/items/{new}/overlay.jpg").status_code == 200
    assert service.history.seen(old).scale is None
    assert retention.clean() == 0


def test_what_a_person_or_the_model_waits_for_is_kept(
    client: TestClient, service: Service, retention: Retention
) -> None:
    undecided, good, bad = score(client, 0.55, 0.2, 0.9)
    judge(client, good, "good")
    judge(client, bad, "defect")
    paths = [age(service, item) for item in (undecided, good, bad)]
    assert retention.clean() == 1
    assert [path.is_file() for path in paths] == [True, True, False]
    assert client.post("/learn").status_code == 200
    judge(client, undecided, "defect")
    assert retention.clean() == 2


def test_a_picture_that_came_again_is_kept(
    client: TestClient, service: Service, retention: Retention
) -> None:
    (first,) = score(client, 0.1)
    path = age(service, first)
    score(client, 0.1)
    os.utime(path, (0, 0))
    assert retention.clean() == 0
    assert path.is_file()


def test_a_service_cleans_by_itself(settings: Settings) -> None:
    with open_service(settings, Lamp.load) as service:
        client = TestClient(create_app(service), "http://127.0.0.1")
        (item,) = score(client, 0.1)
        path = age(service, item)
    with open_service(replace(settings, days=30), Lamp.load):
        while path.is_file():
            time.sleep(0.01)


def test_what_a_killed_process_has_begun_is_removed(settings: Settings) -> None:
    images = settings.folder / "images" / "00"
    images.mkdir(parents=True)
    begun = images / f".{'0' * 64}.123.partial"
    whole = Originals(settings.folder / "images").path("0" * 64)
    candidate = settings.product.with_name(".next-lamp.bayfed")
    for path in (begun, whole, candidate):
        path.write_bytes(b"")
    with open_service(settings, Lamp.load):
        assert [path.is_file() for path in (begun, whole, candidate)] == [False, True, False]
