from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from bayfed.errors import ConfigError, DataError
from bayfed.serve.database import Database
from bayfed.serve.history import History
from bayfed.serve.refusals import StorageError
from bayfed.serve.service import Service, Settings, open_service
from tests.serve.lamp import Lamp, png

ROOT = Path(__file__).resolve().parents[2]

CHILD = """
import sys
from pathlib import Path
from fastapi.testclient import TestClient
from bayfed.serve.app import create_app
from bayfed.serve.service import Settings, open_service
from tests.serve.lamp import Lamp, png

with open_service(Settings(Path(sys.argv[1])), Lamp.load) as service:
    client = TestClient(create_app(service), "http://127.0.0.1")
    for mark in range(10**6):
        (item,) = client.post("/score", content=png(0.55, mark=mark)).json()["items"]
        client.post(f"/items/{item['id']}/review", json={"verdict": "good", "note": "seen"})
        print(item["id"], item["digest"], flush=True)
"""


def test_a_killed_service_has_everything_that_it_answered(settings: Settings) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, settings.product],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert child.stdout is not None
    answered = [child.stdout.readline().split() for _ in range(6)]
    child.send_signal(signal.SIGKILL)
    answered += [line.split() for line in child.stdout.read().splitlines()]
    child.wait()
    with open_service(settings, Lamp.load) as service:
        records = {record.id: record for record in service.history.every()}
        for number, digest in answered:
            record = records[int(number)]
            assert (record.digest, record.verdict, record.note) == (digest, "good", "seen")
            assert service.pictures.picture(record.id, True)
        tallied = sum(service.history.tallies().values())
    assert tallied == len(records)
    assert len(records) - len(answered) in (0, 1)


def full(service: Service) -> sqlite3.Connection:
    """Let SQLite find no further page, as on a full disk."""
    connection = service.history._database._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={pages}")
    return connection


def test_a_full_disk_is_said_and_survived(client: TestClient, service: Service) -> None:
    connection = full(service)
    answers = [client.post("/score", content=png(0.1, mark=mark)) for mark in range(40)]
    refused = [answer for answer in answers if answer.status_code == 507]
    accepted = [answer for answer in answers if answer.status_code == 200]
    assert len(refused) + len(accepted) == 40
    assert refused
    assert "cannot store" in refused[0].json()["error"]
    assert client.get("/healthz").status_code == 200
    connection.execute("PRAGMA max_page_count=1000000")
    accepted.append(client.post("/score", content=png(0.1)))
    ids = [answer.json()["items"][0]["id"] for answer in accepted]
    assert ids == [record.id for record in service.history.every()]
    assert sum(service.history.tallies().values()) == len(ids)


def test_images_that_find_no_room_are_not_recorded(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("bayfed.serve.originals.write_atomic", no_room)
        answer = client.post("/score", content=png(0.1))
    assert answer.status_code == 507
    assert "No space left" in answer.json()["error"]
    assert list(service.history.every()) == []
    assert client.post("/score", content=png(0.1)).status_code == 200


def test_a_mistake_of_ours_is_not_called_a_full_disk(tmp_path: Path) -> None:
    database = Database(tmp_path / "history.sqlite")
    with pytest.raises(sqlite3.OperationalError), database.writing() as connection:
        connection.execute("SELECT nothing FROM nowhere")
    with pytest.raises(StorageError), database.writing():
        raise OSError(28, "No space left on device")
    assert History(database).tallies() == {}
    database.close()


def test_a_second_service_on_the_same_history_is_refused(settings: Settings) -> None:
    with (
        open_service(settings, Lamp.load),
        pytest.raises(ConfigError, match="another service"),
        open_service(settings, Lamp.load),
    ):
        pass
    with open_service(settings, Lamp.load):
        pass


def test_a_folder_that_cannot_be_written_to_is_named(settings: Settings) -> None:
    (settings.folder / "lock").mkdir(parents=True)
    with (
        pytest.raises(ConfigError, match=f"{settings.folder}: "),
        open_service(settings, Lamp.load),
    ):
        pass


@pytest.mark.parametrize(
    ("content", "words"), [(b"no database" * 100, "no history"), (None, "schema 99")]
)
def test_a_history_that_cannot_be_opened_is_left_untouched(
    settings: Settings, content: bytes | None, words: str
) -> None:
    settings.folder.mkdir()
    path = settings.folder / "history.sqlite"
    if content is None:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version=99")
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(DataError, match=words), open_service(settings, Lamp.load):
        pass
    if content is not None:
        assert path.read_bytes() == before
