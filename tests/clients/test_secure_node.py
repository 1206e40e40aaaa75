from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict

from bayfed.errors import ConfigError, FederationError
from bayfed.fingerprint import fingerprint
from clients.app import app
from clients.local import in_process
from experiments.inprocess import InProcessGrid, flower_identity
from server.job import Job
from strategies.secure import secret
from strategies.secure.records import Hello
from strategies.secure.steps import of_content
from strategies.wire import ARRAYS, CODE, CONFIG, ERROR, pack
from tests import fakes

SECURE = {"secure": {"clip": 20.0}, "rounds": 1}


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fakes.install(monkeypatch)
    with flower_identity():
        yield


def ask(
    kind: str, simulated: bool = False, secure: bool = True, **node_config: Any
) -> tuple[RecordDict, str]:
    """Return the reply of a node and its error."""
    experiment = fakes.experiment(**(SECURE if secure else {}))
    config = {
        "experiment": experiment.model_dump_json(),
        "fingerprint": fingerprint(*CODE),
        "round": 1,
        "client": 1,
    }
    theta = pack({"w": torch.zeros(3), "b": torch.zeros(2)})
    message = Message(RecordDict({CONFIG: ConfigRecord(config), ARRAYS: theta}), 7, kind)
    node = {"partition-id": 1, "num-partitions": 3, **node_config}
    context = Context(1, 7, node, RecordDict(), {})
    if simulated:
        with in_process():
            reply = app(message, context).content
    else:
        reply = app(message, context).content
    error = reply.config_records.get(ERROR, ConfigRecord()).get("message", "")
    return reply, str(error)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    secret.make(tmp_path / "secret")
    return tmp_path / "secret"


def test_a_secret_is_made_once_and_for_its_owner_alone(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(secret.read(path)) == 32
    with pytest.raises(ConfigError, match=r"secret: File exists"):
        secret.make(path)


def test_a_node_shows_the_public_key_of_its_secret_in_every_run(path: Path) -> None:
    reply, _ = ask("query.keys", secret=str(path))
    hello = of_content(reply, Hello)
    assert hello.public == secret.public_key(secret.read(path))
    assert hello.latest == 0


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        ("ab" * 32, 0o644, "others may read it (mode 644, 600)"),
        ("ab" * 32, 0o640, "others may read it (mode 640, 600)"),
        ("ab" * 31, 0o600, "not 64 hexadecimal digits"),
        ("ab" * 33, 0o600, "not 64 hexadecimal digits"),
        ("xy" * 32, 0o600, "not 64 hexadecimal digits"),
        ("é" * 32, 0o600, "not 64 hexadecimal digits"),
    ],
)
def test_a_bad_secret_is_refused(tmp_path: Path, text: str, mode: int, reason: str) -> None:
    path = tmp_path / "secret"
    path.write_text(text)
    path.chmod(mode)
    assert ask("query.keys", secret=str(path))[1] == f"secret: {path}: {reason}"


def test_a_secret_that_is_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gone"
    assert ask("query.keys", secret=str(path))[1] == f"secret: {path}: No such file or directory"
    assert ask("query.keys")[1] == "secret: this node has none in its --node-config"


@pytest.mark.parametrize("kind", ["train", "query.statistics"])
def test_a_node_with_a_secret_adds_to_secure_sums_only(path: Path, kind: str) -> None:
    reply, error = ask(kind, secure=False, secret=str(path))
    assert "takes part in runs with secure sums only" in error
    assert not reply.array_records
    assert ask(kind, secure=False)[1] == ""


@pytest.mark.parametrize("kind", ["train", "query.statistics"])
def test_nothing_is_answered_without_an_attempt(path: Path, kind: str) -> None:
    reply, error = ask(kind, secret=str(path))
    assert error == "the message holds no attempt"
    assert not reply.array_records


@pytest.mark.parametrize("kind", ["query.shares", "query.confirm", "query.unmask"])
def test_a_step_without_its_message_is_refused(kind: str) -> None:
    assert ask(kind, simulated=True)[1] == "the message holds no attempt"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not a JSON object of public keys by client"),
        ("[]", "not a JSON object of public keys by client"),
        ('{"a": "00"}', "not a JSON object of public keys by client"),
        ('{"0": 3}', "not a JSON object of public keys by client"),
        ('{"0": "00"}', "a public key has 66 hexadecimal digits"),
    ],
)
def test_a_bad_file_of_peers_is_refused(path: Path, text: str, reason: str) -> None:
    peers = path.with_name("peers.json")
    peers.write_text(text)
    error = ask("query.keys", secret=str(path), peers=str(peers))[1]
    assert error == f"peers: {peers}: {reason}"


class Nodes(InProcessGrid):
    """Real nodes with a secret each, that are started anew for every message."""

    simulated = False

    def __init__(self, folder: Path, peers: dict[int, bytes] | None = None) -> None:
        super().__init__(app, fakes.SITES)
        keys = {}
        for number, context in enumerate(self._contexts.values()):
            home = folder / str(number)
            home.mkdir(parents=True)
            keys[number] = secret.make(home / "secret").hex()
            context.node_config |= {
                "secret": str(home / "secret"),
                "state-dir": str(home),
                "peers": str(folder / "peers.json"),
            }
        keys |= {number: key.hex() for number, key in (peers or {}).items()}
        (folder / "peers.json").write_text(json.dumps(keys))

    def deliver(self, message: Message) -> Message | None:
        context = self._contexts[message.metadata.dst_node_id]
        context.state = RecordDict()
        return self.app(message, context)


def test_nodes_that_are_started_anew_for_each_message_add_up(tmp_path: Path) -> None:
    job = Job(fakes.experiment(**SECURE), tmp_path / "run")
    fakes.play(job, Nodes(tmp_path / "nodes"))
    assert (tmp_path / "nodes" / "0" / "secure-0.json").exists()
    assert "completed" in job.outcome.read_text()


def test_a_node_adds_nothing_among_clients_it_was_not_told_of(tmp_path: Path) -> None:
    job = Job(fakes.experiment(**SECURE), tmp_path / "run")
    foreign = {2: secret.public_key(bytes(32))}
    with pytest.raises(FederationError, match="peers: the key of client 2 is not the one in there"):
        fakes.play(job, Nodes(tmp_path / "nodes", foreign))
