from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from bayfed.evaluation.colours import ColourScale
from bayfed.serve.service import Service
from tests.serve.lamp import Lamp, png


def score(client: TestClient, *brightness: float, name: str = "a.png") -> list[int]:
    answers = [
        client.post("/score", params={"name": name}, content=png(value, mark=i)).json()
        for i, value in enumerate(brightness)
    ]
    return [answer["items"][0]["id"] for answer in answers]


def judge(client: TestClient, item: int, verdict: str, note: str = "") -> None:
    answer = client.post(f"/items/{item}/review", json={"verdict": verdict, "note": note})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("item", [-1, 0, 7, 2**63, 10**30])
def test_an_item_that_is_not_there_is_said_so(client: TestClient, item: int) -> None:
    for path in (f"/items/{item}", f"/items/{item}/picture.jpg"):
        assert client.get(path).status_code == 404
    assert client.post(f"/items/{item}/review", json={"verdict": "good"}).status_code == 404


def listed(client: TestClient, view: str) -> list[int]:
    return [item["id"] for item in client.get("/items", params={"view": view}).json()]


def test_the_queue_holds_undecided_parts_and_the_most_uncertain_comes_first(
    client: TestClient,
) -> None:
    _, far, near, _, nearer = score(client, 0.1, 0.65, 0.55, 0.9, 0.52)
    assert listed(client, "review") == [nearer, near, far]
    judge(client, nearer, "good")
    assert listed(client, "review") == [near, far]
    assert listed(client, "reviewed") == [nearer]
    assert listed(client, "newest")[0] == nearer


def test_a_spot_check_offers_what_was_called_ok_whatever_its_score(client: TestClient) -> None:
    items = score(client, *np.linspace(0.0, 0.25, 12), 0.9)
    offered = listed(client, "check")
    assert sorted(offered) == items[:12]
    assert offered not in (items[:12], items[11::-1])


def test_the_last_word_counts_and_every_word_is_kept(client: TestClient) -> None:
    (item,) = score(client, 0.9)
    judge(client, item, "defect", "scratch")
    judge(client, item, "good", "only  dust\n")
    found = client.get(f"/items/{item}").json()
    assert (found["verdict"], found["note"]) == ("good", "only dust")
    words = [event["text"] for event in client.get("/events").json()]
    assert words == ["overruled: good (only dust)", "confirmed: defect (scratch)"]


def test_counts_follow_the_verdicts(client: TestClient) -> None:
    items = score(client, 0.1, 0.1, 0.9, 0.9, 0.55)
    judge(client, items[2], "good")
    judge(client, items[3], "defect")
    judge(client, items[3], "good")
    judge(client, items[0], "defect")
    status = client.get("/status").json()
    names = "scored", "ok", "defect", "to_review", "reviewed"
    assert [status[name] for name in names] == [5, 2, 2, 1, 3]
    alarms, escapes = status["false_alarms"], status["escapes"]
    assert (alarms["wrong"], alarms["of"]) == (2, 2)
    assert (escapes["wrong"], escapes["of"]) == (1, 1)


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/items/99/review", {"verdict": "good"}, 404),
        ("/items/1/review", {"verdict": "perhaps"}, 422),
        ("/items/1/review", {"verdict": "good", "note": "x" * 2001}, 422),
        ("/items/none/review", {"verdict": "good"}, 422),
        ("/learn", None, 409),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    client: TestClient, path: str, content: object, status: int
) -> None:
    score(client, 0.1)
    answer = client.post(path, json=content)
    assert answer.status_code == status
    assert "\n" not in answer.json()["error"]


def test_an_item_is_drawn_on_the_scale_it_was_scored_with(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    (item,) = score(client, 0.9)
    before = client.get(f"/items/{item}/overlay.jpg").content
    monkeypatch.setattr(Lamp, "scale", ColourScale(-9.0, 9.0, 8.0))
    service.pictures.overlay.cache_clear()
    assert client.get(f"/items/{item}/overlay.jpg").content == before
    assert "threshold 0.5" in client.get(f"/items/{item}/legend.svg").text


def test_pictures_of_an_item_are_as_large_as_they_are_shown(client: TestClient) -> None:
    (item,) = score(client, 0.9)
    for kind in ("picture", "overlay"):
        for small, side in ((0, 320), (1, 288)):
            answer = client.get(f"/items/{item}/{kind}.jpg", params={"small": small})
            assert Image.open(io.BytesIO(answer.content)).size == (side, side)
    assert client.get("/items/99/overlay.jpg").status_code == 404


def test_the_export_holds_every_item_and_no_formula(client: TestClient) -> None:
    (item, _) = score(client, 0.55, 0.1, name="=cmd()")
    judge(client, item, "defect", '@SUM(A1), "dent"')
    rows = list(csv.DictReader(io.StringIO(client.get("/export.csv").text)))
    assert [row["id"] for row in rows] == ["1", "2"]
    assert rows[0]["name"] == "'=cmd()"
    assert rows[0]["note"] == '\'@SUM(A1), "dent"'
    assert (rows[0]["verdict"], rows[0]["leaning"]) == ("defect", "defect")
    assert rows[0]["regions"] == "0,0,32,32"


def test_prometheus_can_read_the_numbers(client: TestClient) -> None:
    items = score(client, 0.1, 0.9, 0.55)
    judge(client, items[0], "good")
    client.get("/items/99")
    lines = client.get("/metrics").text.splitlines()
    for line in (
        'bayfed_images_total{decision="ok"} 1.0',
        'bayfed_verdicts_total{verdict="good"} 1.0',
        "bayfed_to_review 1.0",
        "bayfed_queue 0.0",
        "bayfed_score_seconds_count 3.0",
        'bayfed_refused_total{status="404"} 1.0',
    ):
        assert line in lines


def test_openapi_describes_what_can_be_sent(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    body = described["paths"]["/score"]["post"]["requestBody"]["content"]
    assert {"multipart/form-data", "image/png", "image/jpeg"} <= set(body)
    answers = described["paths"]["/score"]["post"]["responses"]
    assert {"200", "413", "422", "503", "507"} <= set(answers)
    assert "/login" not in described["paths"]
