from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bayfed.data.files import MAX_BYTES
from bayfed.errors import ConfigError
from bayfed.serve import watch
from bayfed.serve.database import Database
from bayfed.serve.history import History
from bayfed.serve.records import Record
from bayfed.serve.service import Service, Settings, open_service
from bayfed.serve.watch import Watch
from tests.serve.lamp import Lamp, png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "camera"
    path.mkdir()
    return path


@contextmanager
def watching(settings: Settings, folder: Path) -> Iterator[tuple[Watch, Service]]:
    """A watch whose looks are called by hand."""
    with open_service(settings, Lamp.load) as service:
        database = Database(settings.folder / "history.sqlite")
        try:
            yield Watch(folder, service.worker, History(database), database), service
        finally:
            database.close()


def names(service: Service) -> list[str]:
    return [record.name for record in service.history.every()]


def test_a_file_is_scored_once_and_only_when_it_no_longer_grows(
    settings: Settings, folder: Path
) -> None:
    whole = png(0.55)
    with watching(settings, folder) as (watched, service):
        (folder / "a.png").write_bytes(whole[:40])
        assert watched.look() == 0
        (folder / "a.png").write_bytes(whole)
        assert watched.look() == 0
        assert [watched.look(), watched.look()] == [1, 0]
        (record,) = service.history.every()
    assert (record.name, record.source, record.decision) == ("a.png", "watch", "review")


def test_after_a_restart_nothing_is_repeated_under_whatever_name(
    settings: Settings, folder: Path
) -> None:
    (folder / "a.png").write_bytes(png(0.1))
    with watching(settings, folder) as (watched, service):
        watched.look()
        assert watched.look() == 1
    (folder / "a.png").rename(folder / "b.png")
    (folder / "sub").mkdir()
    (folder / "sub" / "c.png").write_bytes(png(0.2))
    with watching(settings, folder) as (watched, service):
        watched.look()
        assert [watched.look(), watched.look()] == [1, 0]
        assert names(service) == ["a.png", "sub/c.png"]


def test_a_file_that_was_recorded_but_not_ticked_off_is_not_repeated(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.png").write_bytes(png(0.1))
    with watching(settings, folder) as (watched, service), monkeypatch.context() as patch:
        patch.setattr(Watch, "_remember", lambda *_: None)
        watched.look()
        assert watched.look() == 1
    with watching(settings, folder) as (watched, service):
        watched.look()
        assert watched.look() == 0
        assert names(service) == ["a.png"]


def test_an_unreadable_file_is_recorded_with_the_reason_and_stops_nobody(
    settings: Settings, folder: Path
) -> None:
    (folder / "a.png").write_text("no image")
    (folder / "b.png").write_bytes(png(0.3)[:-30])
    (folder / "c.png").write_bytes(png(0.3, side=13))
    with (folder / "d.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    (folder / "e.png").write_bytes(png(0.3))
    with watching(settings, folder) as (watched, service):
        watched.look()
        assert [watched.look(), watched.look()] == [5, 0]
        errors = {record.name: record.error for record in service.history.every()}
    assert "not a PNG" in str(errors["a.png"])
    assert "unreadable" in str(errors["b.png"])
    assert "bad luck" in str(errors["c.png"])
    assert "the limit is" in str(errors["d.png"])
    assert errors["e.png"] is None


def test_a_name_that_is_no_text_is_recorded_once(settings: Settings, folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(png(0.3))
    (folder / os.fsdecode(b"text\xe9.png")).write_text("no image")
    for expected in ([0, 2, 0], [0, 0, 0]):
        with watching(settings, folder) as (watched, service):
            assert [watched.look(), watched.look(), watched.look()] == expected
            assert sorted(names(service)) == ["caf?.png", "text?.png"]


def test_other_files_and_links_out_of_the_folder_are_left(
    settings: Settings, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.png").write_bytes(png(0.9))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "notes.txt").write_text("hello")
    (folder / ".partial.png").write_bytes(png(0.1))
    os.mkfifo(folder / "pipe.png")
    with watching(settings, folder) as (watched, service):
        assert [watched.look(), watched.look()] == [0, 0]
        assert names(service) == []


def test_a_service_watches_by_itself(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "INTERVAL", 0.01)
    (folder / "a.png").write_bytes(png(0.9))
    with open_service(replace(settings, watch=folder), Lamp.load) as service:
        assert scored_soon(service).decision == "defect"


def scored_soon(service: Service) -> Record:
    for _ in range(100_000):
        for record in service.history.items("newest", 1):
            return record
    raise AssertionError("nothing was scored")


def test_a_folder_that_is_not_there_cannot_be_watched(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        replace(settings, watch=tmp_path / "none")
