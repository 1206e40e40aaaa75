"""A click through the page in a real browser."""

from __future__ import annotations

import os
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from bayfed.serve.app import create_app
from bayfed.serve.service import Service, Settings, open_service
from tests.serve.lamp import Lamp, png

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
PATIENCE = 60_000
"""Milliseconds; how fast it is says more of the machine's other work."""


@contextmanager
def listening(service: Service) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(service), log_level="warning", ws="none"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as running:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = running.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@contextmanager
def opened(browser, url: str, width: int = 1280, height: int = 800) -> Iterator[object]:
    """A page that must neither complain nor ask for anything elsewhere."""
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith((url, "blob:"))
            or complaints.append(request.url))  # fmt: skip
    page.goto(url)
    try:
        yield page
    finally:
        page.close()
    assert complaints == []


def pictures(folder: Path, **brightness: float) -> list[str]:
    for name, value in brightness.items():
        (folder / f"{name}.png").write_bytes(png(value))
    return [str(folder / f"{name}.png") for name in brightness]


def test_a_click_through_the_queue(
    browser, service: Service, settings: Settings, tmp_path: Path
) -> None:
    expect.set_options(timeout=PATIENCE)
    files = pictures(tmp_path, dark=0.1, bright=0.9, first=0.51, second=0.55, third=0.6)
    (tmp_path / "text.png").write_text("no image")
    with listening(service) as url, opened(browser, url) as page:
        expect(page.locator("#empty-title")).to_have_text("Nothing to review")
        page.set_input_files("#files", files)
        expect(page.locator("#message")).to_have_text("5 images scored")
        queue = page.locator("#list li")
        expect(queue).to_have_count(3)
        expect(page.locator("#name")).to_have_text("first.png")
        expect(page.locator("#said")).to_have_text("Doubtful, leaning to defective")

        page.keyboard.press("n")
        expect(page.locator("#name")).to_have_text("second.png")
        page.keyboard.press("t")
        page.keyboard.type("only c on the o")
        page.keyboard.press("Enter")
        page.keyboard.press("o")
        expect(queue).to_have_count(2)
        expect(page.locator("#message")).to_have_text("second.png: good")
        page.keyboard.press("c")
        expect(queue).to_have_count(1)
        page.locator("#overrule").click()
        expect(page.locator("#message")).to_have_text("first.png: good")
        expect(page.locator("#empty-title")).to_be_visible()
        said = {r.name: (r.verdict, r.note) for r in service.history.every() if r.verdict}
        assert sorted(said) == ["first.png", "second.png", "third.png"]
        assert said["second.png"] == ("good", "only c on the o")
        assert sorted(verdict for verdict, _ in said.values()) == ["defect", "good", "good"]

        page.locator("[data-view=newest]").click()
        expect(queue).to_have_count(5)
        page.locator("#list button", has_text="bright.png").click()
        expect(page.locator("#said")).to_have_text("Looks defective")
        page.locator("#confirm").click()
        expect(page.locator("#count-reviewed")).to_have_text("4")
        expect(page.locator("#false-alarms")).to_contain_text("0 of 2 judged")

        page.locator("#learn").click()
        page.locator("#sure-yes").click()
        expect(page.locator("#message")).to_contain_text("The model knows them now")
        assert Lamp.load(settings.product).goods == 7
        page.locator("[data-view=history]").click()
        expect(queue.first).to_contain_text("2 good parts added")

    with listening(service) as url:  # the browser itself reports what the service refuses
        page = browser.new_page()
        page.goto(url)
        page.set_input_files("#files", str(tmp_path / "text.png"))
        expect(page.locator("#message")).to_contain_text("text.png: not a PNG")
        page.close()


def test_names_and_notes_are_shown_as_text(browser, service: Service) -> None:
    name = "<img src=x onerror=document.title='caught'>.png"
    with listening(service) as url, opened(browser, url) as page:
        form = {"images": {"name": name, "mimeType": "image/png", "buffer": png(0.55)}}
        assert page.request.post(f"{url}/score", multipart=form).ok
        expect(page.locator("#name")).to_have_text(name, timeout=PATIENCE)
        page.locator("#note").fill("<script>document.title='caught'</script>")
        page.locator("#confirm").click()
        page.locator("[data-view=history]").click()
        expect(page.locator("#list")).to_contain_text("<script>", timeout=PATIENCE)
        expect(page).to_have_title(re.compile("lamp"))


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_the_page_fits_the_screen_and_fingers(
    browser, service: Service, width: int, height: int
) -> None:
    with listening(service) as url, opened(browser, url, width, height) as page:
        assert page.request.post(f"{url}/score", data=png(0.55)).ok
        page.locator("#part").wait_for()
        for name in ("confirm", "overrule", "next", "note", "learn"):
            box = page.locator(f"#{name}").bounding_box(timeout=PATIENCE)
            assert box["height"] >= 44
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
        lowest = page.locator("#confirm").bounding_box()
        assert lowest["y"] + lowest["height"] <= height


def test_a_token_opens_the_page(browser, settings: Settings) -> None:
    token = "correct horse battery"
    secret = Settings(settings.product, token=token)
    with open_service(secret, Lamp.load) as service, listening(service) as url:
        page = browser.new_page()
        page.goto(url)
        page.locator("[name=token]").fill(token)
        page.locator("button").click()
        expect(page.locator("#product")).to_have_text("lamp", timeout=PATIENCE)
        page.close()
