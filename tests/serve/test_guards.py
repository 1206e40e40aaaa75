from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files

import pytest
from fastapi.testclient import TestClient

from bayfed.errors import ConfigError
from bayfed.serve.app import create_app
from bayfed.serve.service import Service, Settings, open_service
from tests.serve.lamp import Lamp, png

TOKEN = "correct horse battery"
HERE, THERE = "http://127.0.0.1", "http://elsewhere.example"


@pytest.fixture
def guarded(settings: Settings) -> Iterator[TestClient]:
    told = replace(settings, host="0.0.0.0", token=TOKEN)
    with (
        open_service(told, Lamp.load) as service,
        TestClient(create_app(service), "http://plant.example:8000") as client,
    ):
        yield client


def test_others_than_this_machine_need_a_token(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="need a token"):
        replace(settings, host="0.0.0.0")
    with pytest.raises(ConfigError, match="16 characters"):
        replace(settings, token="short")


@pytest.mark.parametrize(
    "path", ["/items", "/items/1", "/items/1/picture.jpg", "/status", "/metrics", "/export.csv",
             "/events", "/openapi.json", "/nothing"]
)  # fmt: skip
def test_without_the_token_nothing_is_shown(guarded: TestClient, path: str) -> None:
    assert guarded.get(path).status_code == 401
    assert guarded.get(path, headers={"Authorization": "Bearer no"}).status_code == 401
    allowed = guarded.get(path, headers={"Authorization": f"Bearer {TOKEN}"})
    assert allowed.status_code in (200, 404)


def test_without_the_token_nothing_is_done(guarded: TestClient) -> None:
    assert guarded.post("/score", content=png(0.1)).status_code == 401
    assert guarded.post("/learn").status_code == 401
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.post("/score", content=png(0.1), headers=bearer).status_code == 200


def test_a_probe_needs_no_token(guarded: TestClient) -> None:
    assert guarded.get("/healthz").status_code == 200


def test_the_page_asks_for_the_token_once(guarded: TestClient) -> None:
    assert 'name="token"' in guarded.get("/").text
    wrong = guarded.post("/login", data={"token": "no"})
    assert wrong.status_code == 401
    assert not guarded.cookies
    right = guarded.post("/login", data={"token": TOKEN}, follow_redirects=False)
    assert right.status_code == 303
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert 'id="stage"' in guarded.get("/").text
    assert guarded.get("/items").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": THERE}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:9000"},
     {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}],
)  # fmt: skip
def test_pages_of_another_origin_change_nothing(
    client: TestClient, service: Service, headers: dict[str, str]
) -> None:
    assert client.post("/score", content=png(0.1), headers=headers).status_code == 403
    assert client.post("/learn", headers=headers).status_code == 403
    assert list(service.history.every()) == []


@pytest.mark.parametrize("headers", [{"Origin": HERE}, {"Sec-Fetch-Site": "same-origin"}, {}])
def test_the_page_itself_and_programs_may(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/score", content=png(0.1), headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["elsewhere.example", "127.0.0.1.elsewhere.example", "", "[::"])
def test_a_name_that_was_made_to_point_here_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/items", headers={"Host": host}).status_code == 403
    assert client.get("/items", headers={"Host": "localhost:8000"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/items", "/nothing", "/static/page.js"])
def test_every_answer_carries_the_headers_of_a_careful_page(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/..%2Fapp.py", "/static/%2e%2e/app.py", "/static/page.py",
     "/items/..%2F..%2Flock/picture.jpg", "/items/1/../../lock"],
)  # fmt: skip
def test_no_path_leads_to_other_files(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (404, 422)


@pytest.mark.parametrize("path", ["/score", "/login"])
@pytest.mark.parametrize("boundary", ["x", "x" * 300])
def test_a_damaged_form_is_refused(client: TestClient, path: str, boundary: str) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = client.post(path, content=b"\xff\xfe", headers=headers)
    assert answer.status_code == 400
    assert "damaged form" in answer.json()["error"]


def test_names_and_notes_stay_text_and_out_of_paths(client: TestClient, service: Service) -> None:
    name = "../../<img src=x onerror=alert(1)>\x00\u202e.png"
    form = [("images", (name, png(0.55)))]
    (item,) = client.post("/score", files=form).json()["items"]
    assert "\x00" not in item["name"]
    assert "\u202e" not in item["name"]
    below = service.settings.folder.parent
    kept = {path.relative_to(below).parts[0] for path in below.rglob("*") if path.is_file()}
    assert kept == {"lamp.data", "lamp.bayfed"}
    assert client.get("/items").headers["content-type"] == "application/json"


@pytest.mark.parametrize("name", ["index.html", "login.html"])
def test_the_page_needs_nothing_from_elsewhere_and_nothing_inline(name: str) -> None:
    static = files("bayfed.serve") / "static"
    page = (static / name).read_text()
    assert "://" not in page
    assert "style=" not in page
    assert "<script>" not in page
    assert " on" + "click" not in page
    scripts = "".join(f.read_text() for f in static.iterdir() if f.name.endswith(".js"))
    for unsafe in ("innerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert unsafe not in scripts
