from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from bayfed.cli.main import build
from bayfed.errors import BayfedError
from deploy import certificates, running
from deploy.certificates import digest, load
from deploy.layout import FederationFolder, NodeFolder


def call(*words: object) -> Result:
    return CliRunner().invoke(build(), [str(word) for word in words])


def mistake(*words: object) -> str:
    """Return the line that a user reads, see ``bayfed.cli.main``."""
    error = call(*words).exception
    assert isinstance(error, BayfedError), error
    return str(error)


def test_a_federation_is_made_with_what_its_administrator_tells_the_plants(tmp_path: Path) -> None:
    folder = FederationFolder(tmp_path / "fed")
    done = call("federation", "init", folder.root, "--host", "fed.example", "--host", "192.0.2.1")
    assert done.exit_code == 0
    assert "plants dial fed.example:9092" in done.stdout
    assert digest(load(folder.authority.certificate)) in done.stdout
    assert folder.settings().listen == "0.0.0.0"
    assert folder.root.stat().st_mode & 0o777 == 0o700
    assert "is not empty" in mistake("federation", "init", folder.root, "--host", "fed.example")


def test_on_one_machine_nobody_else_reaches_the_gate(tmp_path: Path) -> None:
    call("federation", "init", tmp_path / "fed", "--host", "127.0.0.1")
    assert FederationFolder(tmp_path / "fed").settings().listen == "127.0.0.1"


def test_what_does_not_run_says_so_and_exits_with_3(
    server: FederationFolder, plant: NodeFolder
) -> None:
    for kind, folder in (("federation", server), ("node", plant)):
        done = call(kind, "status", folder.root, "--json")
        assert done.exit_code == 3
        assert json.loads(done.stdout)["running"] is False
        assert "was not running" in call(kind, "stop", folder.root).stdout


def test_a_plant_tells_the_others_the_public_key_of_its_secret(plant: NodeFolder) -> None:
    done = call("node", "secret", plant.root)
    assert "public key of plant 1: 0" in done.stdout
    assert plant.sums_secret.read_text().strip() not in done.stdout
    assert "File exists" in mistake("node", "secret", plant.root)


def test_a_run_needs_a_server(server: FederationFolder, tmp_path: Path) -> None:
    said = mistake("federation", "run", server.root, "demo", "--out", tmp_path / "run")
    assert said == f"{server.root}: does not run, start it first"


def test_a_server_whose_port_is_taken_names_the_setting(server: FederationFolder) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        tree = yaml.safe_load(server.settings_file.read_text())
        changed = {**tree, "port": taken.getsockname()[1]}
        server.settings_file.write_text(yaml.safe_dump(changed))
        said = mistake("federation", "start", server.root)
    assert said == f"port: port {changed['port']} of 127.0.0.1 is in use by another program"


@pytest.mark.parametrize("words", [("start",), ("status",), ("unit",), ("trust", "a" * 64)])
def test_a_node_that_is_not_enrolled_is_a_mistake(tmp_path: Path, words: tuple[str, ...]) -> None:
    said = mistake("node", words[0], tmp_path, *words[1:])
    assert "no node is enrolled here" in said


def test_the_server_names_no_folder_of_a_plant() -> None:
    from deploy.running import SETTINGS

    assert [text for text in SETTINGS if text.startswith("data.root=")] == [
        "data.root=/at-each-plant"
    ]


def test_an_expired_certificate_is_told(
    server: FederationFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "_SLACK", timedelta(days=3))
    certificates.make_server(server.server, server.authority, ["127.0.0.1"], -1)
    assert (
        "the server's certificate has expired" in call("federation", "status", server.root).stdout
    )
    monkeypatch.setattr(running, "require_running", lambda _: None)
    for words in (("start", server.root), ("run", server.root, "demo", "--out", tmp_path / "run")):
        assert "server.crt: expired on " in (said := mistake("federation", *words))
        assert said.endswith(f"run: bayfed federation renew {server.root}")


def test_a_line_that_is_no_hash_is_named_with_its_file(plant: NodeFolder) -> None:
    plant.trusted.write_text("everything\n")
    assert mistake("node", "status", plant.root).startswith(f"{plant.trusted}: 'everything': ")
