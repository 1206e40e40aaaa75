from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from bayfed.data import files
from bayfed.serve.app import create_app
from bayfed.serve.service import Service, Settings, open_service
from bayfed.serve.uploads import Limits
from tests.serve.lamp import Lamp, png


def lamp(service: Service) -> Lamp:
    product = service.worker.model.product
    assert isinstance(product, Lamp)
    return product


def starts(product: Lamp) -> None:
    """Wait until a batch is being scored: it has left the queue."""
    assert product.entered.wait(60)


def waits_for(service: Service, number: int) -> None:
    for _ in range(2000):
        if service.worker.depth >= number:
            return
        time.sleep(0.005)
    raise AssertionError(f"{service.worker.depth} images wait, not {number}")


@pytest.mark.parametrize(
    ("brightness", "decision", "leaning"),
    [(0.1, "ok", "good"), (0.9, "defect", "defect"), (0.55, "review", "defect")],
)
def test_an_image_is_scored_and_on_the_disk_before_the_answer(
    client: TestClient, service: Service, brightness: float, decision: str, leaning: str
) -> None:
    answer = client.post("/score", params={"name": "a.png"}, content=png(brightness))
    assert answer.status_code == 200
    (item,) = answer.json()["items"]
    assert (item["decision"], item["leaning"], item["name"]) == (decision, leaning, "a.png")
    assert item["score"] == pytest.approx(brightness, abs=0.01)
    assert [record.id for record in service.history.every()] == [item["id"]]
    kept = service.settings.folder / "images" / item["digest"][:2] / item["digest"]
    assert kept.read_bytes() == png(brightness)


def test_many_images_come_in_one_form_and_bad_ones_do_not_stop_the_others(
    client: TestClient, service: Service
) -> None:
    cut = png(0.4)[:-30]
    form = [("images", (name, data)) for name, data in
            (("good.png", png(0.1)), ("text.png", b"no image"), ("cut.png", cut))]  # fmt: skip
    answer = client.post("/score", files=form).json()
    assert [item["name"] for item in answer["items"]] == ["good.png"]
    rejected = {one["name"]: one["error"] for one in answer["rejected"]}
    assert "not a PNG" in rejected["text.png"]
    assert "unreadable" in rejected["cut.png"]
    assert len(list(service.history.every())) == 1


@pytest.mark.parametrize("body", [b"", b"no image", png(0.3)[:60]])
def test_a_body_without_an_image_is_refused_and_not_kept(
    client: TestClient, service: Service, body: bytes
) -> None:
    answer = client.post("/score", content=body)
    assert answer.status_code == 422
    assert answer.json()["error"]
    assert list(service.history.every()) == []


def test_a_detector_that_fails_on_one_image_scores_those_beside_it(client: TestClient) -> None:
    sizes = (32, 13, 40)
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda s: client.post("/score", content=png(0.1, s)), sizes))
    assert [answer.status_code for answer in answers] == [200, 500, 200]
    assert "13 brings bad luck" in answers[1].json()["error"]
    assert client.get("/healthz").json()["status"] == "ok"


def test_what_waits_is_scored_in_batches(client: TestClient, service: Service) -> None:
    product = lamp(service)
    product.gate.clear()
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(client.post, "/score", content=png(0.1))
        starts(product)
        others = [pool.submit(client.post, "/score", content=png(0.1, mark=i)) for i in range(11)]
        waits_for(service, 11)
        product.gate.set()
        assert {future.result().status_code for future in [first, *others]} == {200}
    assert product.batches == [1, 8, 3]


def test_a_full_queue_says_when_to_come_back(settings: Settings) -> None:
    small = replace(settings, capacity=2)
    with open_service(small, Lamp.load) as service, ThreadPoolExecutor(3) as pool:
        product = lamp(service)
        product.gate.clear()
        with TestClient(create_app(service), "http://127.0.0.1") as client:
            busy = [pool.submit(client.post, "/score", content=png(0.1))]
            starts(product)
            busy += [pool.submit(client.post, "/score", content=png(0.2, mark=i)) for i in (1, 2)]
            waits_for(service, 2)
            refused = client.post("/score", content=png(0.3))
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert client.get("/healthz").json()["waiting"] == 2
            product.gate.set()
            assert [future.result().status_code for future in busy] == [200, 200, 200]
            assert client.post("/score", content=png(0.3)).status_code == 200


def test_64_clients_lose_nothing(client: TestClient, service: Service) -> None:
    def post(mark: int) -> int:
        answer = client.post("/score", content=png(0.1, mark=mark))
        assert answer.status_code == 200, answer.text
        return int(answer.json()["items"][0]["id"])

    with ThreadPoolExecutor(64) as pool:
        accepted = list(pool.map(post, range(128)))
    assert sorted(accepted) == sorted(record.id for record in service.history.every())


def test_an_upload_above_a_limit_is_refused_before_it_is_decoded(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = replace(settings, limits=Limits(body=20_000, images=2))
    with (
        open_service(strict, Lamp.load) as service,
        TestClient(create_app(service), "http://127.0.0.1") as client,
    ):
        assert client.post("/score", content=b"x" * 20_001).status_code == 413
        chunks = (b"x" * 9_000 for _ in range(3))
        assert client.post("/score", content=chunks).status_code == 413
        three = [("images", (f"{i}.png", png(0.1))) for i in range(3)]
        assert "2 images" in client.post("/score", files=three).json()["error"]
        monkeypatch.setattr(files, "MAX_PIXELS", 1000)
        many_pixels = client.post("/score", content=png(0.1, 40))
        assert many_pixels.status_code == 422
        assert "40 x 40" in many_pixels.json()["error"]
        assert client.post("/score", content=png(0.1, 20)).status_code == 200
        assert len(list(service.history.every())) == 1
